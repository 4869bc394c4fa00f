package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/middleware"
)

// MaxResourceBytes is the largest that one resource may be, serialised: it has to fit in a stream message with room to spare.
const MaxResourceBytes = 1 << 20

// Entry is one resource at rest. It is immutable, and so is its message.
type Entry struct {
	// Kind is the resource's kind.
	Kind Kind
	// Message is the resource; references are ids.
	Message Message
	// Settings is a middleware's config as its type's message; nil for other kinds.
	Settings proto.Message

	encoded *streamv1.Resource
	hash    [32]byte
}

// ID returns the resource's id.
func (e *Entry) ID() string { return e.Message.GetId() }

// Name returns the resource's name.
func (e *Entry) Name() string { return e.Message.GetName() }

// Hash returns the SHA-256 of the serialised resource.
func (e *Entry) Hash() [32]byte { return e.hash }

// Encoded returns the resource as nodes get it. It is made once and shared: it is not to be changed.
func (e *Entry) Encoded() *streamv1.Resource { return e.encoded }

// newEntry serialises a valid message, which it takes over.
func newEntry(m Message) (*Entry, error) {
	e := &Entry{Kind: KindOfMessage(m), Message: m}
	body := proto.Message(m)
	var settings *anypb.Any
	if mw, ok := m.(*configv1.Middleware); ok {
		parsed, errs := middleware.Parse(mw.GetType(), mw.GetConfig())
		if len(errs) > 0 {
			return nil, fmt.Errorf("middleware %q: %s %s", mw.GetName(), errs[0].Field, errs[0].Message)
		}
		e.Settings = parsed
		settings = &anypb.Any{}
		if err := anypb.MarshalFrom(settings, parsed, proto.MarshalOptions{Deterministic: true}); err != nil {
			return nil, fmt.Errorf("middleware %q: serialise its settings: %w", mw.GetName(), err)
		}
		bare := proto.CloneOf(mw)
		bare.Config = nil
		body = bare
	}
	if namedOf(m) != nil {
		body = withoutNamed(body) // nodes have no use for it
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("%s %q: serialise: %w", e.Kind, m.GetName(), err)
	}
	e.encoded = &streamv1.Resource{Kind: e.Kind.Proto(), Id: m.GetId(), Body: raw, Settings: settings}
	e.hash = resourceHash(e.encoded)
	e.encoded.Hash = e.hash[:]
	return e, nil
}

// entryOf is newEntry for what a change leads to. What secrets have been taken out of has the hash that it was
// committed with, and no settings: the text that stands for a secret may be none that its type takes.
func entryOf(ch Change) (*Entry, error) {
	if ch.AfterHash == nil {
		return newEntry(ch.After)
	}
	e := &Entry{Kind: KindOfMessage(ch.After), Message: ch.After, hash: *ch.AfterHash}
	e.encoded = &streamv1.Resource{Kind: e.Kind.Proto(), Id: e.ID(), Hash: e.hash[:]}
	return e, nil
}

// HashOf returns the hash that a resource counts with in a configuration's.
func HashOf(m Message) ([32]byte, error) {
	e, err := newEntry(m)
	if err != nil {
		return [32]byte{}, err
	}
	return e.hash, nil
}

// resourceHash covers kind, id, body and settings, each with its length.
func resourceHash(r *streamv1.Resource) [32]byte {
	h := sha256.New()
	var n [8]byte
	part := func(b []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	binary.BigEndian.PutUint64(n[:], uint64(r.GetKind()))
	h.Write(n[:])
	part([]byte(r.GetId()))
	part(r.GetBody())
	part([]byte(r.GetSettings().GetTypeUrl()))
	part(r.GetSettings().GetValue())
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}

// Decode reads a resource that came over the stream or from a file of a node's own, and verifies its hash.
func Decode(r *streamv1.Resource) (*Entry, error) {
	kind, err := KindOf(r.GetKind())
	if err != nil {
		return nil, err
	}
	sum := resourceHash(r)
	if !bytes.Equal(sum[:], r.GetHash()) {
		return nil, fmt.Errorf("%s %s: its content does not have the hash that came with it", kind, r.GetId())
	}
	m := New(kind)
	if err := proto.Unmarshal(r.GetBody(), m); err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, r.GetId(), err)
	}
	if m.GetId() != r.GetId() || m.GetName() == "" {
		return nil, fmt.Errorf("%s %s: its content is of %q, named %q", kind, r.GetId(), m.GetId(), m.GetName())
	}
	e := &Entry{Kind: kind, Message: m, encoded: r, hash: sum}
	if mw, ok := m.(*configv1.Middleware); ok {
		t, known := middleware.Lookup(mw.GetType())
		if !known {
			return nil, fmt.Errorf("middleware %q: this build has no type %q", mw.GetName(), mw.GetType())
		}
		e.Settings = t.New()
		if err := r.GetSettings().UnmarshalTo(e.Settings); err != nil {
			return nil, fmt.Errorf("middleware %q: its settings are not those of type %q: %w", mw.GetName(), mw.GetType(), err)
		}
	}
	return e, nil
}
