"""What every step of the walk uses: the client, sync or async, and how to be refused, to wait and to page.

SENDOFF_URL and SENDOFF_TOKEN say where the server is and as whom it is asked.
"""

import asyncio
import inspect
import os
import time
from contextlib import asynccontextmanager

from majors import METHODS
from svix.api import Svix, SvixAsync, SvixOptions
from svix.api.errors.http_error import HttpError
from svix.api.errors.http_validation_error import HTTPValidationError

# Long, since only a failing walk waits it out.
SOON = 20


class Awaited:
    """A client whose calls are all awaited, so that one walk is right for the sync client and for the async one."""

    def __init__(self, part):
        self._part = part

    def __getattr__(self, name):
        found = getattr(self._part, METHODS.get(name, name))
        if not inspect.ismethod(found):
            return Awaited(found)

        async def call(*given, **named):
            answer = found(*given, **named)
            return await answer if inspect.isawaitable(answer) else answer

        return call


class Client(Awaited):
    """All of a client of this kind, `sync` or `async`, which shows the token."""

    def __init__(self, kind, token):
        # Without retries of its own: a 5xx fails the walk at once.
        options = SvixOptions(server_url=os.environ["SENDOFF_URL"], retry_schedule=[])
        super().__init__({"sync": Svix, "async": SvixAsync}[kind](token, options))
        self._kind = kind

    def showing(self, token):
        """The same for somebody else."""
        return Client(self._kind, token)


@asynccontextmanager
async def refused(status, code=None, loc=None):
    """The call inside is refused with this status, and this code or this one place."""
    try:
        yield
    except HTTPValidationError as error:
        assert error.status_code == status, error
        assert [list(item.loc) for item in error.detail] == [loc], error
        assert all(item.msg and item.type for item in error.detail), error
    except HttpError as error:
        assert (error.status_code, error.code) == (status, code), error
        assert error.detail
    else:
        raise AssertionError(f"this was not refused with {status}")


async def until(what, call, condition):
    """Calls until the answer fits, and gives that answer."""
    deadline = time.monotonic() + SOON
    while True:
        answer = await call()
        if condition(answer):
            return answer
        assert time.monotonic() < deadline, f"in vain for: {what}; the last was {answer}"
        await asyncio.sleep(0.02)


async def both_ways(page, wanted, key="id"):
    """Goes through a list in pages of two, to its end and back to its beginning."""

    def keys(found):
        return [getattr(one, key) for one in found.data]

    pages = [await page(limit=2)]
    while not pages[-1].done:
        pages.append(await page(limit=2, iterator=pages[-1].iterator))
    assert pages[-1].iterator == keys(pages[-1])[-1]
    assert sum(map(keys, pages), []) == wanted and len(pages) == (len(wanted) + 1) // 2 > 1, pages
    found = pages[-1]
    for before in reversed(pages[:-1]):
        assert found.prev_iterator
        found = await page(limit=2, iterator=found.prev_iterator)
        assert keys(found) == keys(before), (found, before)
    assert found.done
