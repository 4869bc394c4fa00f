package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A message is one packet of a SOCK_SEQPACKET socket: a magic, the protocol's version, the kind, and what belongs to
// the kind. Numbers are big-endian, texts and bytes begin with their length in two bytes. There is nothing optional,
// and nothing may follow.

const (
	magic           = "GWHO"
	protocolVersion = 1
	messageHead     = len(magic) + 2

	// MaxSockets is how many sockets can pass over: the kernel takes 253 descriptors at a time (SCM_MAX_FD), of which two
	// are spoken for.
	MaxSockets = 250

	maxMessageBytes = 128 << 10
	maxTextBytes    = 4096
	maxNameBytes    = 64
	maxAddressBytes = 256
	maxSecretBytes  = 64
)

type kind uint8

const (
	kindHello kind = iota + 1 // text: the build
	kindOffer
	kindReady
	kindGo
	kindTaken
	kindBye
	kindRefusal // text: why it ends
)

var kindNames = [...]string{"", "hello", "offer", "ready", "go", "taken", "bye", "refusal"}

func (k kind) String() string {
	if int(k) < len(kindNames) && k > 0 {
		return kindNames[k]
	}
	return fmt.Sprintf("message of kind %d", uint8(k))
}

// message is one of any kind. Fields that do not belong to its kind are empty.
type message struct {
	kind    kind
	sender  int // the process that has sent it, as far as the receiver can see; it is not written down
	text    string
	version Version
	offer   offer
}

// offer is an Estate as far as it can be written down; descriptors travel beside it, in the order of Door's socket,
// names and lock.
type offer struct {
	build, instance string
	secret          []byte
	locked          bool // there is a lock
	names           []name
}

// name is what a socket is known by.
type name struct{ name, address string }

// descriptors is how many travel with a message.
func (m *message) descriptors() int {
	if m.kind != kindOffer {
		return 0
	}
	n := 1 + len(m.offer.names)
	if m.offer.locked {
		n++
	}
	return n
}

func (m *message) encode() []byte {
	w := writer(append([]byte(magic), protocolVersion, byte(m.kind)))
	switch m.kind {
	case kindHello, kindRefusal:
		w.text(cut(m.text, maxTextBytes))
	case kindGo:
		w.text(m.version.Epoch)
		w = binary.BigEndian.AppendUint32(w, m.version.Revision)
	case kindOffer:
		o := &m.offer
		w.text(o.build)
		w.text(o.instance)
		w.text(string(o.secret))
		w.flag(o.locked)
		w = append(w, byte(len(o.names)))
		for _, n := range o.names {
			w.text(n.name)
			w.text(n.address)
		}
	}
	return w
}

// cut shortens a text that is longer than is taken, between two characters.
func cut(s string, most int) string {
	for len(s) > most || !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s[:min(len(s), most)], "")
	}
	return s
}

type writer []byte

func (w *writer) text(s string) {
	*w = append(binary.BigEndian.AppendUint16(*w, uint16(len(s))), s...)
}

func (w *writer) flag(on bool) {
	b := byte(0)
	if on {
		b = 1
	}
	*w = append(*w, b)
}

// decode reads a message.
func decode(b []byte) (*message, error) {
	switch {
	case len(b) < messageHead || string(b[:len(magic)]) != magic:
		return nil, errors.New("what came is no message of the hand-over")
	case b[len(magic)] != protocolVersion:
		return nil, fmt.Errorf("the other process speaks version %d of the hand-over, this one version %d: replace by stopping and starting", b[len(magic)], protocolVersion)
	}
	m := &message{kind: kind(b[len(magic)+1])}
	r := reader{rest: b[messageHead:]}
	switch m.kind {
	case kindHello, kindRefusal:
		m.text = r.text("text", maxTextBytes)
	case kindReady, kindTaken, kindBye:
	case kindGo:
		m.version.Epoch = r.text("epoch", maxAddressBytes)
		m.version.Revision = r.number()
	case kindOffer:
		m.offer = r.offer()
	default:
		return nil, fmt.Errorf("there is no %s", m.kind)
	}
	if r.err == nil && len(r.rest) > 0 {
		r.fail("%d bytes follow its end", len(r.rest))
	}
	if r.err != nil {
		return nil, fmt.Errorf("%s: %w", m.kind, r.err)
	}
	return m, nil
}

// reader takes a message apart. After the first error it gives nothing but zeros.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.rest = nil
}

// take returns the next n bytes; nil where there are fewer.
func (r *reader) take(what string, n int) []byte {
	if len(r.rest) < n {
		r.fail("it ends within its %s", what)
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) bytes(what string, most int) []byte {
	b := r.take(what, 2)
	if b == nil {
		return nil
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > most {
		r.fail("its %s has %d bytes, at most %d are taken", what, n, most)
		return nil
	}
	return r.take(what, n)
}

func (r *reader) text(what string, most int) string {
	s := string(r.bytes(what, most))
	if !utf8.ValidString(s) {
		r.fail("its %s is not UTF-8", what)
		return ""
	}
	return s
}

func (r *reader) number() uint32 {
	if b := r.take("number", 4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) byte(what string, most byte) byte {
	b := r.take(what, 1)
	if b == nil {
		return 0
	}
	if b[0] > most {
		r.fail("its %s is %d, at most %d is taken", what, b[0], most)
		return 0
	}
	return b[0]
}

func (r *reader) offer() offer {
	o := offer{
		build: r.text("build", maxTextBytes), instance: r.text("instance", maxAddressBytes), secret: r.bytes("ticket secret", maxSecretBytes),
		locked: r.byte("lock", 1) == 1,
	}
	for range r.byte("number of sockets", MaxSockets) {
		o.names = append(o.names, name{r.text("socket's name", maxNameBytes), r.text("socket's address", maxAddressBytes)})
		if r.err != nil {
			return offer{}
		}
	}
	return o
}
