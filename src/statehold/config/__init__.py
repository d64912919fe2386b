"""One typed `Config` from `statehold.toml` and the environment: the backend, the kinds, the server."""

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
