"""Drivers that wrap a driver."""
