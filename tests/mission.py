"""The rule file that operators begin with; it must load as it is and fire."""

MISSION = """\
detection_rules:
  - name: ddos_attack
    condition: connection_rate > threshold
    threshold: 1000
    time_window: 1m
  - name: port_scan
    condition: unique_ports_scanned > 10
    time_window: 5m
  - name: suspicious_traffic
    condition: traffic_pattern_anomaly
    severity: high
"""
