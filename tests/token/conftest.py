"""Clients whose servers are closed again."""

import pytest

from tests.token.chats import Client


@pytest.fixture
def open_client():
    """Makes clients of servers with these settings, and closes the servers."""
    made = []

    def opened(**settings):
        made.append(Client(**settings))
        return made[-1]

    yield opened
    for client in made:
        client.store.close()


@pytest.fixture(params=["sealed", "signed"])
def client(open_client, request):
    return open_client(form=request.param)
