"""One typed `Config` from `statehold.toml` and the environment: the backend, the kinds, the server.

loading      from the file and the environment to `Config`, or one line about what is wrong
kinds        kinds declared in TOML: each becomes a `State` class
keys         access keys, of which only the SHA-256 is held
shapes       what TOML and JSON may hold, told apart
"""

from statehold.config.keys import KEY, SCOPES, AccessKey, Scope
from statehold.config.kinds import FIELDS, KIND, kinds_of
from statehold.config.loading import ENVIRONMENT, FILE, SERVER, Config, ServerConfig

__all__ = [
    "ENVIRONMENT",
    "FIELDS",
    "FILE",
    "KEY",
    "KIND",
    "SCOPES",
    "SERVER",
    "AccessKey",
    "Config",
    "Scope",
    "ServerConfig",
    "kinds_of",
]
