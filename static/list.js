// Selecting rows of a list: a checkbox for all, the number on the buttons, and no buttons while nothing is selected.
'use strict';
(() => {
  const form = document.querySelector('#selected');
  const head = document.querySelector('[data-select]');
  if (!form || !head) return;
  const boxes = [...document.querySelectorAll(`input[name="${head.dataset.select}"][form="selected"]`)];
  const buttons = [...form.querySelectorAll('button')].map((button) => [button, button.dataset.counted]);
  const all = Object.assign(document.createElement('input'), { type: 'checkbox', autocomplete: 'off' });
  all.setAttribute('aria-label', head.dataset.label);

  function tell() {
    const count = boxes.filter((box) => box.checked).length;
    all.checked = count > 0 && count === boxes.length;
    all.indeterminate = count > 0 && count < boxes.length;
    form.hidden = count === 0;
    for (const [button, name] of buttons) button.textContent = name.replace('{}', count);
  }

  all.addEventListener('change', () => (boxes.forEach((box) => (box.checked = all.checked)), tell()));
  boxes.forEach((box) => box.addEventListener('change', tell));
  head.prepend(all);
  // The browser may restore ticks after a reload or on the way back.
  addEventListener('pageshow', tell);
  tell();
})();
