package ratelimit

import (
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/ratelimit"
)

// A key is the parts that a limit counts apart by, in their order: of each a byte that says what it is, and where there
// is something its length and its bytes. No two keys of a limit are alike by accident.
const (
	absent   byte = iota // what the part names is not there
	present              // it is, and follows
	repeated             // it has several values, whose number follows
)

// appendKey appends the key of an exchange.
func (l *Limit) appendKey(b []byte, x *exchange.Exchange) []byte {
	for i := range l.Key {
		p := &l.Key[i]
		switch p.Kind {
		case ratelimit.Service:
			b = appendPart(b, x.Service)
		case ratelimit.Route:
			b = appendPart(b, x.Route)
		case ratelimit.Consumer:
			if c := x.Consumer(); c != "" {
				b = appendPart(b, c)
			} else {
				b = append(b, absent)
			}
		case ratelimit.ClientIP:
			b = appendAddress(b, x.Client.Addr(), p)
		case ratelimit.Header:
			b = appendField(b, x, p.Name)
		case ratelimit.Claim:
			var v any
			if x.Principal != nil {
				v = x.Principal.Claims[p.Name]
			}
			b = appendClaim(b, v)
		}
	}
	return b
}

func appendPart(b []byte, s string) []byte {
	b = binary.AppendUvarint(append(b, present), uint64(len(s)))
	return append(b, s...)
}

func appendAddress(b []byte, a netip.Addr, p *ratelimit.Part) []byte {
	a = a.Unmap()
	switch {
	case a.Is4():
		bytes := a.As4()
		mask := ^uint32(0) << (32 - p.Bits4)
		b = append(b, present, 4)
		return binary.BigEndian.AppendUint32(b, binary.BigEndian.Uint32(bytes[:])&mask)
	case a.Is6():
		bytes := a.As16()
		for i := range bytes {
			if keep := p.Bits6 - 8*i; keep <= 0 {
				bytes[i] = 0
			} else if keep < 8 {
				bytes[i] &= 0xff << (8 - keep)
			}
		}
		return append(append(b, present, 16), bytes[:]...)
	}
	return append(b, absent)
}

// appendField appends all values of a field: what is sent several times is another key than any of its values.
func appendField(b []byte, x *exchange.Exchange, name string) []byte {
	begin, n := len(b), 0
	for _, f := range x.Request.Header.Fields() {
		if len(f.Name) == len(name) && exchange.EqualFold(f.Name, name) {
			b = appendPart(b, f.Value)
			n++
		}
	}
	switch n {
	case 0:
		return append(b, absent)
	case 1:
		return b
	}
	b[begin] = repeated
	return binary.AppendUvarint(append(b, absent), uint64(n))
}

// appendClaim appends texts, numbers, truth values and lists of them. Others are taken for absent.
func appendClaim(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return appendPart(b, v)
	case bool:
		return appendPart(b, strconv.FormatBool(v))
	case float64:
		var memory [32]byte
		return appendPart(b, string(strconv.AppendFloat(memory[:0], v, 'g', -1, 64)))
	case json.Number:
		return appendPart(b, v.String())
	case []any:
		b = binary.AppendUvarint(append(b, repeated), uint64(len(v)))
		for _, one := range v {
			if _, nested := one.([]any); nested {
				one = nil
			}
			b = appendClaim(b, one)
		}
		return b
	}
	return append(b, absent)
}

// costOf returns what an exchange takes of a limit.
func costOf(x *exchange.Exchange, l *Limit) int64 {
	text, has := x.Request.Header.Lookup(l.CostHeader)
	if !has {
		return l.Cost
	}
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	if err != nil || n < 1 || n > ratelimit.MaxCost {
		return l.Cost
	}
	return int64(n)
}
