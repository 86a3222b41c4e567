"""The factory's gauges: energy with a source, a tier and an interval; control tokens; key figures.

Importing this package loads nothing but itself. Take the parts from their files::

    from factory.energy.config import EnergyConfig
    from factory.energy.meter import Meter
    from factory.energy.tokens import TokenCounter, TokenSpec
"""
