"""Adapters of batched environments to other training libraries; each module imports its library, nothing else does."""
