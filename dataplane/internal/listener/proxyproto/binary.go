package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

const (
	// signature begins a header of version 2. No protocol that is meant for a listener begins so.
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	// fixedBytes is the size of what every header of version 2 has.
	fixedBytes = 16
)

// What the bytes that follow the signature may be (section 2.2): a version with a command, and an address family with a
// transport.
const (
	version2     = 0x20
	commandLocal = 0x0
	commandProxy = 0x1

	unspec      = 0x00
	inetStream  = 0x11
	inet6Stream = 0x21
	unixStream  = 0x31
)

// typeCRC32C is the type of the extension that has a checksum of the whole header (section 2.2.3).
const typeCRC32C = 3

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parseBinary reads a header of version 2.
func parseBinary(b []byte) (Header, int, error) {
	if len(b) < fixedBytes {
		return Header{}, 0, nil
	}
	command, family := b[12]&0xf, b[13]
	size := fixedBytes + int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case b[12]&0xf0 != version2:
		return Header{}, 0, malformed("its version is not 2")
	case command != commandLocal && command != commandProxy:
		return Header{}, 0, malformed("its command is not LOCAL or PROXY")
	case size > MaxHeaderBytes:
		return Header{}, 0, malformed("it is longer than 4096 bytes")
	case len(b) < size:
		return Header{}, 0, nil
	case command == commandLocal || family == unspec:
		return Header{Local: true}, size, nil // the rest is to be skipped
	}
	rest := b[fixedBytes:size]
	var addresses int
	switch family {
	case inetStream:
		addresses = 4 + 4 + 2 + 2
	case inet6Stream:
		addresses = 16 + 16 + 2 + 2
	case unixStream:
		addresses = 108 + 108
	default:
		return Header{}, 0, malformed("it is not of a stream over IPv4, IPv6 or a Unix socket")
	}
	if len(rest) < addresses {
		return Header{}, 0, malformed("it is too short for its addresses")
	}
	var h Header
	switch family {
	case inetStream:
		h.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[8:]))
	case inet6Stream:
		h.Source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)).Unmap(), binary.BigEndian.Uint16(rest[32:]))
	}
	if err := checkExtensions(b[:size], fixedBytes+addresses); err != nil {
		return Header{}, 0, err
	}
	return h, size, nil
}

// checkExtensions skips the extensions that begin at b[i], and verifies the checksum if it is among them.
func checkExtensions(b []byte, i int) error {
	summed := false
	for i < len(b) {
		if len(b)-i < 3 {
			return malformed("an extension breaks off")
		}
		kind, length := b[i], int(binary.BigEndian.Uint16(b[i+1:]))
		i += 3
		if len(b)-i < length {
			return malformed("an extension is longer than the header")
		}
		if kind == typeCRC32C {
			if length != 4 || summed {
				return malformed("its checksum is not one of 4 bytes")
			}
			summed = true
			if binary.BigEndian.Uint32(b[i:]) != checksum(b, i) {
				return malformed("its checksum is wrong")
			}
		}
		i += length
	}
	return nil
}

// checksum returns the CRC-32C of b with zeros where the checksum stands, from b[at].
func checksum(b []byte, at int) uint32 {
	sum := crc32.Update(0, castagnoli, b[:at])
	sum = crc32.Update(sum, castagnoli, make([]byte, 4))
	return crc32.Update(sum, castagnoli, b[at+4:])
}
