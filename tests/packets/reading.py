"""The policy read plainly, as an oracle that shares nothing with the program: who may pass, by prefixes as text."""

import ipaddress


def longest(prefixes, address):
    """What the longest of the prefixes that hold the address stands for."""
    holding = [(prefix.prefixlen, what) for prefix, what in prefixes
               if prefix.version == address.version and address in prefix]
    return max(holding)[1] if holding else None


class Reading:
    """The policy in a few sentences, for packets that carry TCP's beginning."""

    def __init__(self, lines, subscriber, relays, experts, pools):
        """`pools`: pairs of prefix and action."""
        self.pools = [(ipaddress.ip_network(text), action) for text, action in pools]
        self.relays = [(ipaddress.ip_network(text), True) for text in relays]
        self.experts = [(ipaddress.ip_network(text), True) for text in experts]
        self.routes = [(ipaddress.ip_network(text.replace("default", "0.0.0.0/0")), name)
                       for name, line in lines.items() for text in line.prefixes]
        self.subscriber = subscriber

    def line_of(self, address):
        return longest(self.routes, address)

    def is_relay(self, *addresses):
        return any(longest(self.relays, address) for address in addresses)

    def fenced(self, address, line):
        """Whether port 25 of an address behind a line is closed."""
        if longest(self.experts, address):
            return False
        action = longest(self.pools, address)
        return line in self.subscriber if action is None else action in ("drop", "reject")

    def passes(self, source, destination, line, to_25, from_25):
        """Ports that can't be read count as both."""
        if to_25 and not self.is_relay(destination):
            if line in self.subscriber and self.line_of(source) != line:
                return False
            if not self.is_relay(source) and self.fenced(source, line):
                return False
        if from_25 and not self.is_relay(source, destination):
            return not self.fenced(destination, self.line_of(destination))
        return True
