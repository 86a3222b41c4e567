"""Standard uncertainties of energy counters, and how they combine.

Every `*_u_j` is one standard uncertainty [J]; `expanded_j` reports them at coverage factor k = 2
(JCGM 100:2008, the GUM).
"""

from __future__ import annotations

from math import sqrt

COVERAGE_FACTOR = 2.0
NORMAL_95 = 1.959964
"""97.5 % quantile of the normal distribution."""
_T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t with 1 to 9 degrees of freedom."""


def quantisation_u_j(power_w: float, *, period_s: float) -> float:
    """Bound the error of two reads of a counter that moves once every `period_s`.

    Each read lags by U[0, power * period], so the difference has a standard deviation of P * tau / sqrt(6).
    """
    return power_w * period_s / sqrt(6.0)


def coverage_u_j(mean_w: float, *, max_w: float, period_s: float, duration_s: float) -> float:
    """Bound the error of a sensor that looks at only a part of each period.

    Yang, Adamek, Armour, "Accurate and Convenient Energy Measurements for GPUs" (SC24): A100 and H100 see
    25 % of the run time. The power of a load inside [0, max_w] with mean m has a variance of at most m *
    (max_w - m) (Bhatia and Davis, 2000); over n = T / tau periods the errors add as tau * sqrt(n) * sigma.
    This holds for loads that are not locked to the sensor's own period; nothing can bound the error of one
    that is.
    """
    sigma_w = sqrt(max(0.0, mean_w * (max_w - mean_w)))
    return sigma_w * sqrt(period_s * duration_s)


def expanded_j(*standard_u_j: float) -> float:
    """Combine independent standard uncertainties and expand them to k = 2 [J]."""
    return COVERAGE_FACTOR * sqrt(sum(u_j * u_j for u_j in standard_u_j))


def student_t(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t (Cornish-Fisher from ten degrees of freedom on)."""
    if degrees <= len(_T_95):
        return _T_95[degrees - 1]
    z = NORMAL_95
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
