# SPDX-License-Identifier: BSD-3-Clause
"""How many ranks, and what lies between them."""
import collections

Scenario = collections.namedtuple("Scenario", "name ranks hosts rate wire title")

SCENARIOS = {scenario.name: scenario for scenario in (
    Scenario("shm2", 2, False, None, "shm", "2 ranks on one host"),
    Scenario("shm4", 4, False, None, "shm", "4 ranks on one host"),
    Scenario("shm8", 8, False, None, "shm", "8 ranks on one host"),
    Scenario("tcp2", 2, False, None, "tcp", "2 ranks on one host, TCP alone"),
    Scenario("hosts2", 2, True, None, "tcp", "2 hosts, unshaped links"),
    Scenario("hosts4", 4, True, None, "tcp", "4 hosts, unshaped links"),
    Scenario("hosts2-1g", 2, True, "1gbit", "tcp", "2 hosts, 1 Gbit/s"),
    Scenario("hosts4-1g", 4, True, "1gbit", "tcp", "4 hosts, 1 Gbit/s"),
)}
