package proxyproto

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// v2 puts a header of version 2 together.
func v2(command, family byte, content ...string) string {
	all := strings.Join(content, "")
	b := append([]byte(signature), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(all)))
	return string(b) + all
}

func extension(kind byte, value string) string {
	b := binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value)))
	return string(b) + value
}

const (
	inet      = "\xc0\x00\x02\x07\x0a\x00\x00\x01\xdd\xd5\x01\xbb" // 192.0.2.7:56789 to 10.0.0.1:443
	inet6     = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\xdd\xd5\x01\xbb"
	inet6of4  = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x07" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\xdd\xd5\x01\xbb"
	knownSum  = "\x7b\x1e\x4f\x0a" // replaced in summed
	wrongSum  = "\x00\x00\x00\x01"
	unixPaths = 216
)

// summed returns a header over IPv4 with a checksum, worked out bit by bit and apart from the code under test.
func summed(t *testing.T) string {
	t.Helper()
	b := []byte(v2(0x21, 0x11, inet, extension(4, "\x00\x00"), extension(typeCRC32C, knownSum)))
	at := len(b) - 4
	copy(b[at:], "\x00\x00\x00\x00")
	crc := ^uint32(0)
	for _, c := range b {
		crc ^= uint32(c)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0x82f63b78
			} else {
				crc >>= 1
			}
		}
	}
	binary.BigEndian.PutUint32(b[at:], ^crc)
	return string(b)
}

var (
	client4 = Header{Source: netip.MustParseAddrPort("192.0.2.7:56789")}
	client6 = Header{Source: netip.MustParseAddrPort("[2001:db8::7]:56789")}
)

func TestParse(t *testing.T) {
	longest := "PROXY UNKNOWN " + strings.Repeat("f", maxTextBytes-len("PROXY UNKNOWN \r\n")) + "\r\n"
	for name, test := range map[string]struct {
		header string
		want   Header
	}{
		"text over IPv4":                            {"PROXY TCP4 192.0.2.7 10.0.0.1 56789 443\r\n", client4},
		"text over IPv6":                            {"PROXY TCP6 2001:db8::7 2001:db8::1 56789 443\r\n", client6},
		"text over IPv6 from an address of IPv4":    {"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 56789 443\r\n", client4},
		"text with the least and the largest port":  {"PROXY TCP4 192.0.2.7 10.0.0.1 0 65535\r\n", Header{Source: netip.MustParseAddrPort("192.0.2.7:0")}},
		"text of something unknown":                 {"PROXY UNKNOWN\r\n", Header{Local: true}},
		"text of something unknown with more":       {"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", Header{Local: true}},
		"the longest text":                          {longest, Header{Local: true}},
		"binary over IPv4":                          {v2(0x21, 0x11, inet), client4},
		"binary over IPv6":                          {v2(0x21, 0x21, inet6), client6},
		"binary over IPv6 from an address of IPv4":  {v2(0x21, 0x21, inet6of4), client4},
		"binary over a Unix socket":                 {v2(0x21, 0x31, strings.Repeat("x", unixPaths)), Header{}},
		"binary of the proxy itself":                {v2(0x20, 0x00), Header{Local: true}},
		"binary of the proxy itself with addresses": {v2(0x20, 0x11, inet, "rest that means nothing"), Header{Local: true}},
		"binary of something unknown":               {v2(0x21, 0x00, "rest"), Header{Local: true}},
		"binary with extensions":                    {v2(0x21, 0x11, inet, extension(1, "h2"), extension(0xea, "\x01vpce-1"), extension(4, "")), client4},
		"binary with a checksum":                    {summed(t), client4},
		"the longest binary":                        {v2(0x21, 0x11, inet, extension(4, strings.Repeat("x", MaxHeaderBytes-fixedBytes-len(inet)-3))), client4},
	} {
		t.Run(name, func(t *testing.T) {
			for cut := range len(test.header) {
				if _, size, err := Parse([]byte(test.header[:cut])); size != 0 || err != nil {
					t.Fatalf("the first %d of %d bytes: size %d, %v", cut, len(test.header), size, err)
				}
			}
			h, size, err := Parse([]byte(test.header + "GET / HTTP/1.1\r\n"))
			if err != nil || size != len(test.header) {
				t.Fatalf("size %d of %d, %v", size, len(test.header), err)
			}
			if d := cmp.Diff(test.want, h, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, header := range map[string]string{
		"a request":                         "GET / HTTP/1.1\r\n",
		"a TLS handshake":                   "\x16\x03\x01\x02\x00",
		"another word":                      "PROXX TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
		"lower case":                        "proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
		"a line that ends with LF":          "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n",
		"a line with CR inside":             "PROXY UNKNOWN \r x\r\n",
		"a line with NUL":                   "PROXY UNKNOWN \x00\r\n",
		"a line that is too long":           "PROXY UNKNOWN " + strings.Repeat("f", maxTextBytes) + "\r\n",
		"a line that is too long, unended":  "PROXY UNKNOWN " + strings.Repeat("f", maxTextBytes),
		"UNKNOWN with something attached":   "PROXY UNKNOWNS\r\n",
		"another protocol":                  "PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
		"two spaces":                        "PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n",
		"a space at the end":                "PROXY TCP4 192.0.2.7 10.0.0.1 1 2 \r\n",
		"too few parts":                     "PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
		"IPv6 as TCP4":                      "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
		"IPv4 as TCP6":                      "PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
		"a zone":                            "PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n",
		"an address with leading zeros":     "PROXY TCP4 192.0.02.7 10.0.0.1 1 2\r\n",
		"an odd destination":                "PROXY TCP4 192.0.2.7 10.0.0.256 1 2\r\n",
		"a port with leading zeros":         "PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n",
		"a port with a sign":                "PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n",
		"a port that is too large":          "PROXY TCP4 192.0.2.7 10.0.0.1 65536 2\r\n",
		"a port that is far too large":      "PROXY TCP4 192.0.2.7 10.0.0.1 1 4294967297\r\n",
		"no port":                           "PROXY TCP4 192.0.2.7 10.0.0.1  2\r\n",
		"another version":                   v2(0x11, 0x11, inet),
		"another command":                   v2(0x22, 0x11, inet),
		"another family":                    v2(0x21, 0x41, inet),
		"datagrams":                         v2(0x21, 0x12, inet),
		"a family without a transport":      v2(0x21, 0x10, inet),
		"IPv4 that breaks off":              v2(0x21, 0x11, inet[:11]),
		"IPv6 that breaks off":              v2(0x21, 0x21, inet6[:35]),
		"a Unix socket that breaks off":     v2(0x21, 0x31, strings.Repeat("x", unixPaths-1)),
		"more than 4096 bytes":              v2(0x21, 0x11, inet, extension(4, strings.Repeat("x", MaxHeaderBytes-fixedBytes-len(inet)-2))),
		"as long as it can say":             v2(0x21, 0x11, strings.Repeat("x", 65535)),
		"an extension that breaks off":      v2(0x21, 0x11, inet, "\x04\x00"),
		"an extension beyond the header":    v2(0x21, 0x11, inet, "\x04\x00\x01"),
		"a wrong checksum":                  v2(0x21, 0x11, inet, extension(typeCRC32C, wrongSum)),
		"a checksum of another size":        v2(0x21, 0x11, inet, extension(typeCRC32C, "\x00\x00\x00")),
		"a changed byte under the checksum": strings.Replace(summed(t), "\xdd\xd5", "\xdd\xd4", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if h, size, err := Parse([]byte(header)); !errors.Is(err, ErrMalformed) || size != 0 {
				t.Errorf("%+v, size %d, %v", h, size, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"PROXY TCP4 192.0.2.7 10.0.0.1 56789 443\r\n", "PROXY TCP6 2001:db8::7 2001:db8::1 56789 443\r\nGET", "PROXY UNKNOWN x\r\n", "GET / HTTP/1.1\r\n",
		v2(0x21, 0x11, inet, extension(4, "x")), v2(0x21, 0x21, inet6), v2(0x20, 0x00), v2(0x21, 0x31, strings.Repeat("x", unixPaths)),
		v2(0x21, 0x11, inet, extension(typeCRC32C, wrongSum)),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, size, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || size != 0 || h != (Header{}) {
				t.Fatalf("%+v, size %d, %v", h, size, err)
			}
			return
		}
		if size > len(b) || size > MaxHeaderBytes || h.Source.Addr().Is4In6() || h.Local && h.Source.IsValid() {
			t.Fatalf("%+v, size %d of %d", h, size, len(b))
		}
		if size == 0 {
			if len(b) >= MaxHeaderBytes {
				t.Fatalf("%d bytes are not enough", len(b))
			}
			return
		}
		// The header alone says the same, and no part of it is a header.
		if again, n, err := Parse(b[:size]); again != h || n != size || err != nil {
			t.Fatalf("alone: %+v, size %d, %v", again, n, err)
		}
		if part, n, err := Parse(b[:size-1]); n != 0 || err != nil {
			t.Fatalf("without its last byte: %+v, size %d, %v", part, n, err)
		}
	})
}
