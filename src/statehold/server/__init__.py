"""States over HTTP: `create_app` makes the application, `run` serves it until it is told to stop.

A request goes down this list:

    running      the process: serves until SIGTERM or SIGINT
    app          the application: its routes, its errors, the gate that every request comes through
    access       who may do what: keys with scopes, tenants, hosts
    reading      what a request says, typed; everything wrong is a problem
    states       the routes of single states and of listings
    batch        many commits and reads in one request
    sweeping     what has ended is cleared away while nobody writes
    watch        server-sent events of a state's revisions;  `hub` knows who waits for which
    health       whether it is alive and can answer, and what was counted
    service      what all routes share: the store, its kinds, the settings
    problems     errors as `application/problem+json`
    openapi      the OpenAPI document
    console/     a first page for people
"""

from statehold.server.app import create_app
from statehold.server.running import run

__all__ = ["create_app", "run"]
