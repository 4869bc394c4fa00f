package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/suggest"
)

// Edit is one desired change: to put a resource or to delete one.
type Edit struct {
	// Kind is the kind of both.
	Kind Kind
	// Put creates or replaces the resource with its id or, when it has none, with its name. It is not changed.
	Put Message
	// Delete is the id or name of the resource to remove; Put is then nil.
	Delete string
	// Replace is the id of the resource that Put takes the place of; empty: the one that Put's own id, or else its
	// name, is of.
	Replace string
	// MustExist refuses to create, MustNotExist to replace.
	MustExist, MustNotExist bool
	// Version has to be the resource's current one; 0 is not compared.
	Version uint32
	// AsGiven says that it is a change to give a reference as a name in place of an id, or the other way round, since it
	// is shown as it was given. Files have names throughout, so that applying one is none.
	AsGiven bool
	// Obtains says that the certificate comes from an ACME server just now: only then obtained, which is read-only, is
	// taken.
	Obtains bool
	// Location is where the edit stands in what was sent, for problems.
	Location string
}

// PlanOptions are the circumstances of a plan.
type PlanOptions struct {
	// Now is the time of the change.
	Now time.Time
	// NewID makes an id for each resource that is created.
	NewID func() string
	// AllowShrink lets the result be empty, or lose most of its routes.
	AllowShrink bool
	// Stored has the keys of certificates, and the values of texts that name variables of the environment, that stand in
	// for those that are left out, as they do when they are put: for an export, which never has them, to be as valid as
	// what it was made of. It may be nil.
	Stored *Config
	// LeftOut takes certificates without keys and such texts without values, where it can't be seen whether they are
	// stored.
	LeftOut bool
	// Restore keeps ids and creation times of what is put: it has been part of an earlier revision.
	Restore bool
}

// Plan is what edits come to: a valid configuration and the changes that lead to it.
type Plan struct {
	// Config is the result; the configuration itself when nothing changes.
	Config *Config
	// Changes are in the order of kinds and of the edits.
	Changes []Change

	base    *Config
	at      map[location]string
	now     time.Time
	ignored Problems
}

// Plan works out what edits come to. Names in references become ids, absent fields their defaults; a resource that is
// put as it is makes no change. The whole result is validated, and everything that is wrong is reported at once as
// Problems. Other errors are *VersionConflict, *NotFound, *Exists and *InUse, when they are all that is wrong with a
// single edit.
func (c *Config) Plan(edits []Edit, opts PlanOptions) (*Plan, error) {
	p := &planner{base: c, opts: opts}
	for k := range p.staged {
		p.staged[k], p.names[k] = map[string]*stage{}, map[string]*stage{}
	}
	for _, e := range edits {
		p.stage(e)
	}
	if len(edits) == 1 && len(p.errs) == 1 && len(p.problems) == 1 {
		return nil, p.errs[0]
	}
	p.resolve()
	p.validate()
	if len(p.problems) > 0 {
		return nil, p.wrong()
	}
	if p.unread {
		p.ignored = append(p.ignored, Problem{Message: "not everything was checked: some of it depends on variables that " +
			"the environment does not have"})
		return &Plan{Config: c, base: c, ignored: hideTaken(p.ignored, p.staging)}, nil
	}
	next, changes, err := p.build()
	if err != nil {
		return nil, err
	}
	if len(changes) == 0 {
		return &Plan{Config: c, base: c, ignored: hideTaken(p.ignored, p.staging)}, nil
	}
	at := p.locations()
	if err := p.checkConfiguration(next, changes, at); err != nil {
		return nil, err
	}
	if len(p.problems) > 0 {
		return nil, p.wrong()
	}
	next.Table() // built once here: every later one is derived from it
	return &Plan{Config: next, Changes: changes, base: c, at: at, now: opts.Now,
		ignored: hideTaken(p.ignored, p.staging)}, nil
}

// stage is one resource that the edits touch.
type stage struct {
	edit   Edit
	before *Entry
	after  Message // nil: deleted
	// written has what stood in references in place of ids.
	written map[string]string
	// unknown are the fields that have the text of a file, whose value is not known.
	unknown []string
}

type planner struct {
	base     *Config
	opts     PlanOptions
	order    []*stage
	staged   [lastKind + 1]map[string]*stage // by id
	names    [lastKind + 1]map[string]*stage // by the name that it will have
	problems Problems
	ignored  Problems // what was given and is not for the author of a change to say
	errs     []error  // those of the problems that have a type of their own
	hints    int      // how many names were looked for that are like a wrong one
	unread   bool     // whether a value that is not known left something unchecked
}

// maxHints is for how many wrong references of one plan a similar name is looked for: that takes as long as there are
// names, while others wait to commit.
const maxHints = 20

func (p *planner) refuse(e Edit, name string, err error) {
	p.errs = append(p.errs, err)
	field := ""
	var conflict *VersionConflict
	var exists *Exists
	switch {
	case errors.As(err, &conflict):
		field = "version"
	case errors.As(err, &exists):
		field = "name"
	}
	p.problems.add(e.Kind, name, e.Location, field, "", "%s", err)
}

// wrong returns the problems as they may be shown.
func (p *planner) wrong() Problems { return hideTaken(p.problems, p.staging) }

// staging returns the resource of a name as the edits put it; nil: they do not.
func (p *planner) staging(k Kind, name string) Message {
	if s := p.names[k][name]; s != nil {
		return s.after
	}
	return nil
}

// stage finds what an edit is about.
func (p *planner) stage(e Edit) {
	if e.Put == nil {
		p.stageDelete(e)
		return
	}
	name := e.Put.GetName()
	var before *Entry
	id := cmp.Or(e.Replace, e.Put.GetId())
	if id != "" && !e.MustNotExist {
		if before = p.base.ByID(e.Kind, id); before == nil && !p.opts.Restore {
			p.refuse(e, name, &NotFound{e.Kind, id})
			return
		}
	} else {
		before = p.base.ByName(e.Kind, name)
	}
	switch {
	case before != nil && e.MustNotExist:
		p.refuse(e, name, &Exists{e.Kind, name})
		return
	case before == nil && e.MustExist:
		p.refuse(e, name, &NotFound{e.Kind, name})
		return
	case e.Version != 0 && (before == nil || before.Message.GetVersion() != e.Version):
		current := uint32(0)
		if before != nil {
			current = before.Message.GetVersion()
		}
		p.refuse(e, name, &VersionConflict{e.Kind, name, e.Version, current})
		return
	}
	after, stored := proto.CloneOf(e.Put), p.stored(e.Kind, name, before)
	kept, unknown := keepEnvironment(after, stored)
	for _, path := range unknown {
		if !p.opts.LeftOut {
			p.problems.add(e.Kind, name, e.Location, path, after.GetEnvironment()[path],
				"is what a file has, and no value of it is stored: apply the file where the variable is set, or give the value")
		}
	}
	kept = append(kept, p.fill(after, before, stored, e.Obtains)...)
	redirected(after, stored, kept, func(path, because string) {
		p.problems.add(e.Kind, name, e.Location, path, "",
			"has to be given again: what is stored is not sent anywhere else, and %s has changed", because)
	})
	if !p.opts.Restore {
		p.ignore(e, before, after)
	}
	if p.staged[e.Kind][after.GetId()] != nil || p.names[e.Kind][name] != nil && name != "" {
		p.problems.add(e.Kind, name, e.Location, "name", name, "is there twice: names are unique among %s", e.Kind.Plural())
		return
	}
	p.put(&stage{edit: e, before: before, after: after, unknown: unknown})
}

// stored returns the resource whose keys and values stand in for those that are left out; nil: there is none.
func (p *planner) stored(k Kind, name string, before *Entry) Message {
	if before == nil && p.opts.Stored != nil {
		before = p.opts.Stored.ByName(k, name)
	}
	if before == nil {
		return nil
	}
	return before.Message
}

func (p *planner) stageDelete(e Edit) {
	before := p.base.Lookup(e.Kind, e.Delete)
	switch {
	case before == nil:
		p.refuse(e, e.Delete, &NotFound{e.Kind, e.Delete})
		return
	case e.Version != 0 && before.Message.GetVersion() != e.Version:
		p.refuse(e, before.Name(), &VersionConflict{e.Kind, before.Name(), e.Version, before.Message.GetVersion()})
		return
	case p.staged[e.Kind][before.ID()] != nil:
		p.problems.add(e.Kind, before.Name(), e.Location, "", "", "is put and deleted at once")
		return
	}
	p.put(&stage{edit: e, before: before})
}

func (p *planner) put(s *stage) {
	p.order = append(p.order, s)
	if s.after != nil {
		p.staged[s.edit.Kind][s.after.GetId()] = s
		p.names[s.edit.Kind][s.after.GetName()] = s
	} else {
		p.staged[s.edit.Kind][s.before.ID()] = s
	}
}

// fill sets what the server gives, drops what is read-only and fills defaults in. It returns the paths of the write-only
// values that are kept.
func (p *planner) fill(m Message, before *Entry, stored Message, obtains bool) (kept []string) {
	id, created, version := m.GetId(), m.GetCreatedAt(), uint32(1)
	switch {
	case before != nil:
		id, created, version = before.ID(), before.Message.GetCreatedAt(), before.Message.GetVersion()+1
	case p.opts.Restore && id != "":
		version = m.GetVersion() + 1
	default:
		id, created = p.opts.NewID(), timestamppb.New(p.opts.Now)
	}
	setField(m, "id", protoreflect.ValueOfString(id))
	setTime(m, "created_at", created)
	setStamp(m, version, timestamppb.New(p.opts.Now))
	describe(KindOfMessage(m)).fill(m, stored, filling{obtains: obtains, restore: p.opts.Restore})
	return keepWriteOnly(m, stored)
}

// resolve makes ids of names in references, and keeps what was written.
func (p *planner) resolve() {
	for _, s := range p.order {
		if s.after == nil {
			continue
		}
		var named []string
		for _, ref := range references(s.after) {
			id, ok := p.find(ref.kind, *ref.value)
			if !ok {
				p.problems.add(s.edit.Kind, s.after.GetName(), s.edit.Location, ref.field, *ref.value, "%s", p.noneOf(ref))
				continue
			}
			if id != *ref.value {
				named = append(named, ref.field)
				if s.written == nil {
					s.written = map[string]string{}
				}
				s.written[id] = *ref.value
				*ref.value = id
			}
		}
		if !p.opts.Restore {
			setNamed(s.after, named)
		}
	}
}

// noneOf says why a reference names nothing, with a name that is like it, of those that there are in the end.
func (p *planner) noneOf(ref reference) string {
	if e := p.base.Lookup(ref.kind, *ref.value); e != nil {
		if s := p.staged[ref.kind][e.ID()]; s != nil && s.after == nil {
			return fmt.Sprintf("names a %s that is removed by the same change", ref.kind)
		}
	}
	if p.hints++; p.hints > maxHints {
		return fmt.Sprintf("names no %s", ref.kind)
	}
	known := func(yield func(string) bool) {
		for n := range p.names[ref.kind] {
			if !yield(n) {
				return
			}
		}
		for e := range p.base.All(ref.kind) {
			if p.staged[ref.kind][e.ID()] == nil && !yield(e.Name()) { // others are removed, or among the names above
				return
			}
		}
	}
	return fmt.Sprintf("names no %s%s", ref.kind, suggest.Hint(*ref.value, known))
}

// find returns the id that a reference means in the result.
func (p *planner) find(k Kind, ref string) (string, bool) {
	if s := p.staged[k][ref]; s != nil {
		return ref, s.after != nil
	}
	if s := p.names[k][ref]; s != nil {
		return s.after.GetId(), true
	}
	if e := p.base.ByID(k, ref); e != nil {
		return ref, true
	}
	if e := p.base.ByName(k, ref); e != nil {
		if s := p.staged[k][e.ID()]; s != nil {
			// Deleted, or renamed away by the same edits.
			return "", false
		}
		return e.ID(), true
	}
	return "", false
}

// build derives the configuration.
func (p *planner) build() (*Config, []Change, error) {
	var changes []Change
	var entries []entryChange
	for _, k := range Kinds() {
		for _, s := range p.order {
			if s.edit.Kind != k {
				continue
			}
			var ec entryChange
			ch := Change{Kind: k}
			if s.before != nil {
				ec.before, ch.Before = s.before, s.before
			}
			if s.after != nil {
				p.seal(s)
				if s.before != nil && sameContent(s.before.Message, s.after) && (!s.edit.AsGiven && !p.opts.Restore ||
					slices.Equal(namedOf(s.before.Message), namedOf(s.after))) {
					continue
				}
				e, err := NewEntry(s.after)
				if err != nil {
					return nil, nil, fmt.Errorf("plan: %w", err)
				}
				if n := e.Size(); n > MaxResourceBytes {
					p.problems.add(k, e.Name(), s.edit.Location, "", "", "has %d bytes; a resource may have %d", n, MaxResourceBytes)
				}
				ec.after, ch.After = e, e
			}
			entries = append(entries, ec)
			changes = append(changes, ch)
		}
	}
	if len(p.problems) > 0 {
		return nil, nil, p.wrong()
	}
	return p.base.with(entries), changes, nil
}

// seal puts hashes in the place of what takes long to hash. Nothing is kept of what is only looked at.
func (p *planner) seal(s *stage) {
	m, ok := s.after.(*configv1.Consumer)
	if !ok || p.opts.LeftOut {
		return
	}
	var stored *configv1.Consumer
	if now := p.stored(Consumer, m.GetName(), s.before); now != nil {
		stored = now.(*configv1.Consumer)
	}
	SealPasswords(m, stored)
}

// sameContent compares all but what a change itself sets, and whether ids or names were given. It leaves both as they
// are.
func sameContent(before, after Message) bool {
	v, u := after.GetVersion(), after.GetUpdatedAt()
	n := namedOf(after)
	defer func() { setStamp(after, v, u); setNamed(after, n) }()
	setStamp(after, before.GetVersion(), before.GetUpdatedAt())
	setNamed(after, namedOf(before))
	return proto.Equal(before, after)
}

func setStamp(m Message, version uint32, updated *timestamppb.Timestamp) {
	setField(m, "version", protoreflect.ValueOfUint32(version))
	setTime(m, "updated_at", updated)
}

// setTime sets a field that all kinds have; nil clears it.
func setTime(m Message, name protoreflect.Name, t *timestamppb.Timestamp) {
	if t == nil {
		m.ProtoReflect().Clear(m.ProtoReflect().Descriptor().Fields().ByName(name))
		return
	}
	setField(m, name, protoreflect.ValueOfMessage(t.ProtoReflect()))
}
