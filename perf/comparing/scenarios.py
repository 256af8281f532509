# SPDX-License-Identifier: BSD-3-Clause
"""How many ranks, and what lies between them."""
import collections

Scenario = collections.namedtuple("Scenario", "name ranks hosts rate title")

SCENARIOS = {scenario.name: scenario for scenario in (
    Scenario("shm2", 2, False, None, "2 ranks on one host"),
    Scenario("shm4", 4, False, None, "4 ranks on one host"),
    Scenario("shm8", 8, False, None, "8 ranks on one host"),
    Scenario("hosts2", 2, True, None, "2 hosts, unshaped links"),
    Scenario("hosts4", 4, True, None, "4 hosts, unshaped links"),
    Scenario("hosts2-1g", 2, True, "1gbit", "2 hosts, 1 Gbit/s"),
    Scenario("hosts4-1g", 4, True, "1gbit", "4 hosts, 1 Gbit/s"),
)}
