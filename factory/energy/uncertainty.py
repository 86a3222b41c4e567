"""Standard uncertainties of energy counters, and how they combine.

Every `*_u_j` is one standard uncertainty [J]; `expanded_j` reports them at coverage factor k = 2
(JCGM 100:2008, the GUM).
"""

from __future__ import annotations

from math import sqrt

COVERAGE_FACTOR = 2.0
"""k: number of standard uncertainties on either side, about 95 %."""
NORMAL_95 = 1.959964
"""97.5 % quantile of the normal distribution."""


def quantisation_u_j(power_w: float, *, period_s: float) -> float:
    """Return the uncertainty of the difference of two reads of a counter that moves once every `period_s`.

    Each read lags behind by a uniform U[0, P * tau], whose variance is (P * tau)^2 / 12. The difference of
    two independent reads has twice that variance, so its standard deviation is P * tau / sqrt(6).
    """
    return power_w * period_s / sqrt(6.0)


def coverage_u_j(mean_w: float, *, max_w: float, period_s: float, duration_s: float) -> float:
    """Return the uncertainty of a sensor that samples only a part of each period.

    Yang, Adamek, Armour, "Accurate and Convenient Energy Measurements for GPUs" (SC24): A100 and H100 sample
    25 % of the run time. This holds for loads that are not locked to the sensor's own period; nothing can
    bound the error of one that is.
    """
    # A power inside [0, max] with mean m varies by at most sigma^2 = m * (max - m) (Bhatia and Davis, 2000).
    sigma_w = sqrt(max(0.0, mean_w * (max_w - mean_w)))
    # The errors of n = T / tau periods are independent: tau * sqrt(n) * sigma = sigma * sqrt(tau * T).
    return sigma_w * sqrt(period_s * duration_s)


def expanded_j(*standard_u_j: float) -> float:
    """Combine independent standard uncertainties and expand them to k = 2 [J]."""
    return COVERAGE_FACTOR * sqrt(sum(u_j * u_j for u_j in standard_u_j))


def student_t(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t, the half-width of a 95 % interval in standard errors."""
    # Imported here: the meter itself must stay light.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))
