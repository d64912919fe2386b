"""States on Redis or Valkey."""

from statehold.drivers.redis.driver import SETTINGS, RedisDriver, from_url

__all__ = ["SETTINGS", "RedisDriver", "from_url"]
