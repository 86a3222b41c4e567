"""Adapters between batched environments and other libraries; only the module of a library imports it."""
