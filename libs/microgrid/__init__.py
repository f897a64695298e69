"""The pure domain: microgrids, capabilities, bindings, routing and events. No I/O, no clock."""
