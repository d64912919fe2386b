"""Drivers that wrap a driver.

wrapper      `Wrapper`: passes everything on; whoever wraps changes what it needs
coalesce     `Coalesce`: concurrent commits passed down together
metrics      `Metrics`: counts of what is asked and answered
bridge       drivers whose calls are made elsewhere: in an event loop of another thread
choosing     middleware by name, as a URL or a configuration asks for it
"""
