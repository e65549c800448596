"""What the person who runs a service needs: settings, secrets, alerts, objectives, health endpoints, cost.

Nothing here is imported by the client, and nothing runs unless it is asked for.
"""
