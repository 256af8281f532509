# SPDX-License-Identifier: BSD-3-Clause
"""What perf/compare is made of."""
