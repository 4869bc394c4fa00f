package proxyproto

import (
	"bytes"
	"net/netip"
	"strings"
)

const (
	// prefix begins a header of version 1.
	prefix = "PROXY "
	// maxTextBytes is the longest line of version 1, CRLF included.
	maxTextBytes = 107
)

// parseText reads a header of version 1, one line of text (section 2.1).
func parseText(b []byte) (Header, int, error) {
	b = b[:min(len(b), maxTextBytes)]
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) == maxTextBytes {
			return Header{}, 0, malformed("its line is longer than 107 bytes")
		}
		return Header{}, 0, nil
	}
	if end == 0 || b[end-1] != '\r' {
		return Header{}, 0, malformed("its line does not end with CRLF")
	}
	line, size := string(b[:end-1]), end+1
	for i := range len(line) {
		if line[i] < ' ' || line[i] > '~' {
			return Header{}, 0, malformed("its line has other characters than visible ASCII")
		}
	}
	if line == "PROXY UNKNOWN" || strings.HasPrefix(line, "PROXY UNKNOWN ") {
		return Header{Local: true}, size, nil // whatever follows is to be ignored
	}
	parts := strings.Split(line, " ")
	if len(parts) != 6 {
		return Header{}, 0, malformed("its line does not have six parts")
	}
	var is func(netip.Addr) bool
	switch parts[1] {
	case "TCP4":
		is = netip.Addr.Is4
	case "TCP6":
		is = netip.Addr.Is6
	default:
		return Header{}, 0, malformed("its protocol is not TCP4, TCP6 or UNKNOWN")
	}
	source, sourceOK := parseAddr(parts[2], is)
	_, destinationOK := parseAddr(parts[3], is)
	if !sourceOK || !destinationOK {
		return Header{}, 0, malformed("an address is not one of its protocol")
	}
	port, sourceOK := parsePort(parts[4])
	_, destinationOK = parsePort(parts[5])
	if !sourceOK || !destinationOK {
		return Header{}, 0, malformed("a port is not a number from 0 to 65535")
	}
	return Header{Source: netip.AddrPortFrom(source.Unmap(), port)}, size, nil
}

func parseAddr(s string, is func(netip.Addr) bool) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	return a, err == nil && is(a) && a.Zone() == ""
}

// parsePort reads a decimal number without sign or leading zeros.
func parsePort(s string) (uint16, bool) {
	if s == "" || len(s) > 5 || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return uint16(n), n <= 65535
}
