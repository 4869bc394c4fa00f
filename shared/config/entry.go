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

// MaxResourceBytes is the largest that one resource may be, serialised: it has to fit in a stream message, which may
// have 4 MiB, by itself. A middleware with 100,000 prefixes of addresses has room.
const MaxResourceBytes = 3584 << 10

// Entry is one resource at rest, with the bytes that it was committed as. Nobody serialises it again: a build that does
// not know all of its fields would write them in another order, and find another hash. It is immutable, and so is its
// message.
type Entry struct {
	// Kind is the resource's kind.
	Kind Kind
	// Message is the resource; references are ids. Fields that this build does not know are its unknown fields.
	Message Message
	// Settings is a middleware's config as its type's message; nil for other kinds, and where this build does not have
	// the type, which only control planes take.
	Settings proto.Message

	stored   []byte // the message as it was committed; nil where it came over the stream, without internal fields
	body     []byte // what nodes get of it
	settings *anypb.Any
	hash     [32]byte
	purged   bool // secrets have been taken out since it was committed; hash is of what was
	unknown  []string
}

// Stored is a resource as a store keeps it.
type Stored struct {
	// Body is the resource's message, as it was serialised when it was committed.
	Body []byte
	// Settings is a middleware's config as its type's message in a google.protobuf.Any, as it was serialised then; empty
	// for other kinds, and where the build that committed it did not keep it.
	Settings []byte
	// Hash is the hash that it was committed with, where secrets have been taken out of Body since; nil where nothing has.
	Hash *[32]byte
}

// ID returns the resource's id.
func (e *Entry) ID() string { return e.Message.GetId() }

// Name returns the resource's name.
func (e *Entry) Name() string { return e.Message.GetName() }

// Hash returns the SHA-256 of the resource's bytes.
func (e *Entry) Hash() [32]byte { return e.hash }

// Encoded returns the resource as nodes get it. It shares its bytes, which are not to be changed, with the entry.
func (e *Entry) Encoded() *streamv1.Resource {
	return &streamv1.Resource{Kind: e.Kind.Proto(), Id: e.ID(), Hash: e.hash[:], Body: e.body, Settings: e.settings}
}

// Size returns how many bytes nodes get.
func (e *Entry) Size() int { return len(e.body) + len(e.settings.GetValue()) }

// Purged reports whether secrets have been taken out of the resource since it was committed. Its hash is that of what
// was committed, so that the hash of the whole can be verified; nodes would not take it.
func (e *Entry) Purged() bool { return e.purged }

// Unknown returns the places of the fields that this build does not know, such as "rewrite.field 12" for what has the
// number 12; nil: it knows all.
func (e *Entry) Unknown() []string { return e.unknown }

// Stored returns the resource as a store keeps it; its bytes are not to be changed. It is for entries that did not come
// over the stream.
func (e *Entry) Stored() Stored {
	s := Stored{Body: e.stored}
	if e.settings != nil {
		s.Settings = marshalAny(e.settings)
	}
	if e.purged {
		s.Hash = &e.hash
	}
	return s
}

// NewEntry serialises a valid message, which it takes over, as it is committed.
func NewEntry(m Message) (*Entry, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%s %q: serialise: %w", KindOfMessage(m), m.GetName(), err)
	}
	return entryOf(KindOfMessage(m), m, Stored{Body: raw})
}

// FromStore reads a resource that a store has kept. It takes the bytes over. It fails only on what can't be read, and
// on a middleware without settings of a type that this build does not have.
func FromStore(kind Kind, s Stored) (*Entry, error) {
	m := New(kind)
	if err := proto.Unmarshal(s.Body, m); err != nil {
		return nil, fmt.Errorf("read a %s: %w", kind, err)
	}
	return entryOf(kind, m, s)
}

func entryOf(kind Kind, m Message, s Stored) (*Entry, error) {
	e := &Entry{Kind: kind, Message: m, stored: s.Body, body: withoutInternal(kind, s.Body)}
	// What secrets have been taken out of has no settings: the text that stands for one may be none that its type takes.
	if mw, ok := m.(*configv1.Middleware); ok && s.Hash == nil {
		if err := e.settle(mw, s.Settings); err != nil {
			return nil, fmt.Errorf("middleware %q: %w", mw.GetName(), err)
		}
	}
	if s.Hash != nil {
		e.hash, e.purged = *s.Hash, true
	} else {
		e.hash = resourceHash(kind.Proto(), m.GetId(), e.body, e.settings)
	}
	e.unknown = unknownFields(e)
	return e, nil
}

// settle sets a middleware's settings: those that were kept or, where there are none, what its config says.
func (e *Entry) settle(mw *configv1.Middleware, kept []byte) error {
	if len(kept) > 0 {
		e.settings = &anypb.Any{}
		if err := proto.Unmarshal(kept, e.settings); err != nil {
			return fmt.Errorf("read its settings: %w", err)
		}
		t, known := middleware.Lookup(mw.GetType())
		if !known {
			return nil // there is a later build beside this one, which has the type
		}
		e.Settings = t.New()
		return e.settings.UnmarshalTo(e.Settings)
	}
	parsed, errs := middleware.Parse(mw.GetType(), mw.GetConfig())
	if len(errs) > 0 {
		return fmt.Errorf("%s %s", errs[0].Field, errs[0].Message)
	}
	e.Settings, e.settings = parsed, &anypb.Any{}
	return anypb.MarshalFrom(e.settings, parsed, proto.MarshalOptions{Deterministic: true})
}

// resourceHash covers kind, id, body and settings, each with its length.
func resourceHash(kind streamv1.Kind, id string, body []byte, settings *anypb.Any) [32]byte {
	h := sha256.New()
	var n [8]byte
	part := func(b []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	binary.BigEndian.PutUint64(n[:], uint64(kind))
	h.Write(n[:])
	part([]byte(id))
	part(body)
	part([]byte(settings.GetTypeUrl()))
	part(settings.GetValue())
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}

// HashOfBody returns the hash of a resource without settings, as Resource has it.
func HashOfBody(k Kind, id string, body []byte) [32]byte {
	return resourceHash(k.Proto(), id, body, nil)
}

// Decode reads a resource that came over the stream or from a file of a node's own, and verifies its hash.
func Decode(r *streamv1.Resource) (*Entry, error) {
	kind, err := KindOf(r.GetKind())
	if err != nil {
		return nil, err
	}
	sum := resourceHash(r.GetKind(), r.GetId(), r.GetBody(), r.GetSettings())
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
	e := &Entry{Kind: kind, Message: m, body: r.GetBody(), settings: r.GetSettings(), hash: sum}
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
	e.unknown = unknownFields(e)
	return e, nil
}
