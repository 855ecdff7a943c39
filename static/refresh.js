// Replaces the section with [data-refresh="seconds"] by its current version, until that no longer has the attribute. Waits
// while the section has the focus or the page is hidden. A <details> with an id stays as the reader left it.
'use strict';
(() => {
  const section = () => document.querySelector('[data-refresh]');

  async function refresh() {
    const old = section();
    const busy = () => document.hidden || old.matches(':focus-within');
    if (busy()) return;
    const response = await fetch(location.pathname + location.search, { headers: { accept: 'text/html' } });
    // The session has ended.
    if (response.redirected) return location.reload();
    const text = await response.text();
    const fresh = response.ok && new DOMParser().parseFromString(text, 'text/html').getElementById(old.id);
    if (!fresh || busy()) return;
    for (const details of old.querySelectorAll('details[id]')) {
      const same = fresh.querySelector(`details[id="${details.id}"]`);
      if (same) same.open = details.open;
    }
    old.replaceWith(fresh);
    document.dispatchEvent(new CustomEvent('refreshed', { detail: fresh }));
  }

  function wait() {
    const next = section();
    if (next) setTimeout(() => refresh().catch(() => {}).finally(wait), next.dataset.refresh * 1000);
  }

  wait();
})();
