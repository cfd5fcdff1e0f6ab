"""Stages of an attack, read off the ATT&CK techniques of its alerts.

A stage is one or several ATT&CK tactics (Enterprise, TA ids beside each): what an attack has reached says
more about what to do next than the names of its techniques.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from schemas.incident import STAGES, Stage

# Techniques that leave traces on a network, by stage; sub-techniques follow their technique.
_TECHNIQUES: Mapping[Stage, str] = {
    # Reconnaissance (TA0043) and, seen from inside, Discovery (TA0007).
    "reconnaissance": "T1016 T1018 T1046 T1049 T1069 T1082 T1087 T1135 T1482 T1526 T1580 T1590 T1592 T1595 T1596 T1613",
    # Initial Access (TA0001), Execution (TA0002), Credential Access (TA0006).
    "access": "T1040 T1059 T1078 T1110 T1133 T1187 T1189 T1190 T1195 T1199 T1203 T1212 T1528 T1539 T1552 T1555 "
    "T1556 T1557 T1606 T1609 T1610",
    # Lateral Movement (TA0008).
    "lateral_movement": "T1021 T1072 T1080 T1091 T1210 T1534 T1550 T1563 T1570",
    # Command and Control (TA0011).
    "command_and_control": "T1001 T1008 T1071 T1090 T1092 T1095 T1102 T1104 T1105 T1132 T1205 T1219 T1568 T1571 "
    "T1572 T1573",
    # Collection (TA0009) and Exfiltration (TA0010).
    "exfiltration": "T1005 T1011 T1020 T1029 T1030 T1039 T1041 T1048 T1052 T1213 T1530 T1537 T1560 T1567 T1602",
    # Impact (TA0040).
    "impact": "T1485 T1486 T1489 T1490 T1491 T1496 T1498 T1499 T1529 T1531 T1565 T1657",
}
_STAGE_OF: Mapping[str, Stage] = {
    technique: stage for stage, techniques in _TECHNIQUES.items() for technique in techniques.split()
}


def stages_of(techniques: Iterable[str]) -> tuple[Stage, ...]:
    """Return the stages that techniques belong to, in the order of an attack; an unknown one belongs to none."""
    found = {_STAGE_OF.get(technique.partition(".")[0]) for technique in techniques}
    return tuple(stage for stage in STAGES if stage in found)
