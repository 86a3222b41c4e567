"""Energy metering: joules with source, tier and interval; control tokens; key metrics.

Importing this package loads nothing but itself. Import the parts from their modules::

    from factory.energy.config import EnergyConfig
    from factory.energy.meter import Meter
    from factory.energy.tokens import TokenCounter, TokenSpec
"""
