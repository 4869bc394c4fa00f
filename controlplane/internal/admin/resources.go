package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"gateway.internal/controlplane/internal/catalog"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/suggest"
)

// The seven kinds are read and changed in the same way; kinds.go binds each kind's messages to these functions.

const (
	defaultPerPage = 50
	maxPerPage     = 1000
)

func itoa(n int) string { return strconv.Itoa(n) }

// page is what every list request has.
type page interface {
	GetPage() uint32
	GetPerPage() uint32
}

// cut returns one page of a list.
func cut[T any](list []T, p page, revision uint32) ([]T, *adminv1.ReplyMeta, error) {
	per, number := p.GetPerPage(), max(p.GetPage(), 1)
	if per > maxPerPage {
		return nil, nil, invalid("per_page", itoa(int(per)), "has to be from 1 to "+itoa(maxPerPage))
	}
	if per == 0 {
		per = defaultPerPage
	}
	meta := &adminv1.ReplyMeta{Revision: revision, Total: uint32(len(list)), Page: number, PerPage: per}
	start := min(uint64(number-1)*uint64(per), uint64(len(list)))
	end := min(start+uint64(per), uint64(len(list)))
	return list[start:end], meta, nil
}

// listRequest is what the seven list requests have in common.
type listRequest interface {
	page
	GetRevision() uint32
	GetSort() string
	GetName() string
	GetLabels() []string
}

func (s *Server) version() (*catalog.Version, error) {
	v := s.catalog.Current()
	if v == nil {
		reason := "the configuration has not been loaded yet"
		if err := s.catalog.StoreError(); err != nil {
			reason = err.Error()
		}
		return nil, failure(fault.StoreUnavailable, reason)
	}
	return v, nil
}

// versionAt returns the configuration at a revision, the newest where that is 0. Of another one than the newest only
// that is known.
func (s *Server) versionAt(ctx context.Context, revision uint32) (*catalog.Version, error) {
	v, err := s.version()
	if err != nil || revision == 0 || revision == v.Revision {
		return v, err
	}
	c, err := s.catalog.ConfigAt(ctx, revision)
	if err != nil {
		return nil, err
	}
	return &catalog.Version{Epoch: v.Epoch, Revision: revision, Config: c}, nil
}

// list filters, sorts and pages what was there at the revision that the request names. keep may be nil.
func list[M config.Message](
	ctx context.Context, s *Server, k config.Kind, req listRequest, keep func(v *catalog.Version, m M) bool,
) ([]M, *adminv1.ReplyMeta, error) {
	v, err := s.versionAt(ctx, req.GetRevision())
	if err != nil {
		return nil, nil, err
	}
	return listOf(s, v, k, req, keep)
}

// listOf is list of a version.
func listOf[M config.Message](
	s *Server, v *catalog.Version, k config.Kind, req listRequest, keep func(v *catalog.Version, m M) bool,
) ([]M, *adminv1.ReplyMeta, error) {
	var all []M
	for e := range v.Config.All(k) {
		m := e.Message.(M)
		if strings.Contains(m.GetName(), req.GetName()) && hasLabels(m.GetLabels(), req.GetLabels()) && (keep == nil || keep(v, m)) {
			all = append(all, m)
		}
	}
	if err := sortBy(all, req.GetSort()); err != nil {
		return nil, nil, err
	}
	part, meta, err := cut(all, req, v.Revision)
	if err != nil {
		return nil, nil, err
	}
	size := 0
	for _, m := range part {
		if size += proto.Size(m); size > s.largestPage {
			return nil, nil, failure(fault.RequestTooLarge, fmt.Sprintf(
				"the page has more than %d MiB: ask for fewer items than %d per_page", s.largestPage>>20, meta.GetPerPage()))
		}
	}
	return redactedAll(s, v.Config, part), meta, nil
}

func hasLabels(have map[string]string, want []string) bool {
	for _, w := range want {
		key, value, exact := strings.Cut(w, "=")
		if got, ok := have[key]; !ok || exact && got != value {
			return false
		}
	}
	return true
}

// sortBy sorts by a field, with a leading "-" descending; names decide between equals.
func sortBy[M config.Message](list []M, by string) error {
	field, descending := strings.CutPrefix(by, "-")
	var compare func(a, b M) int
	switch field {
	case "", "name":
		compare = func(M, M) int { return 0 }
	case "created_at":
		compare = func(a, b M) int { return a.GetCreatedAt().AsTime().Compare(b.GetCreatedAt().AsTime()) }
	case "updated_at":
		compare = func(a, b M) int { return a.GetUpdatedAt().AsTime().Compare(b.GetUpdatedAt().AsTime()) }
	case "version":
		compare = func(a, b M) int { return cmp.Compare(a.GetVersion(), b.GetVersion()) }
	default:
		var zero M
		fd := zero.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(field))
		if field != "priority" && field != "order" || fd == nil {
			return invalid("sort", by, `has to be name, created_at, updated_at or version (priority for routes, order for middleware), with a leading "-" to descend`)
		}
		compare = func(a, b M) int {
			return cmp.Compare(number(a.ProtoReflect().Get(fd)), number(b.ProtoReflect().Get(fd)))
		}
	}
	slices.SortFunc(list, func(a, b M) int {
		c := cmp.Or(compare(a, b), cmp.Compare(a.GetName(), b.GetName()))
		if descending {
			return -c
		}
		return c
	})
	return nil
}

func number(v protoreflect.Value) int64 {
	switch n := v.Interface().(type) {
	case int32:
		return int64(n)
	case uint32:
		return int64(n)
	}
	return 0
}

// redactedAll returns copies as clients may see them.
func redactedAll[M config.Message](s *Server, c *config.Config, list []M) []M {
	out := make([]M, len(list))
	for i, m := range list {
		out[i] = redacted(s, c, m)
	}
	return out
}

// get returns one resource as clients may see it.
func get[M config.Message](s *Server, k config.Kind, idOrName string) (M, *adminv1.ReplyMeta, error) {
	var none M
	v, err := s.version()
	if err != nil {
		return none, nil, err
	}
	e := v.Config.Lookup(k, idOrName)
	if e == nil {
		return none, nil, &config.NotFound{Kind: k, Ref: idOrName}
	}
	return redacted(s, v.Config, e.Message.(M)), &adminv1.ReplyMeta{Revision: v.Revision}, nil
}

// redacted returns a copy without secrets, with references as they were given, and with what nodes and discovery say.
func redacted[M config.Message](s *Server, c *config.Config, m M) M {
	out := c.AsGiven(config.Redacted(m))
	if out, ok := out.(*configv1.Service); ok {
		s.annotate(out)
	}
	return out.(M)
}

// annotate adds what the fleet and discovery know of a service.
func (s *Server) annotate(c *configv1.Service) {
	found := s.catalog.Endpoints()
	if set := found.Services[c.GetId()]; set != nil && c.GetDiscovery() != nil {
		c.DiscoveredAt = timestamp(found.ChangedAt[c.GetId()])
	}
	h := s.fleet.Health(c.GetId(), c.GetEndpoints(), found.Services[c.GetId()].GetEndpoints())
	c.LastHealthCheck = h.LastCheck
	for _, e := range c.GetEndpoints() {
		e.Id = config.EndpointID(c.GetId(), e)
		if healthy, known := h.Endpoints[config.EndpointKey(e)]; known {
			e.Healthy = proto.Bool(healthy)
		}
	}
	if healthy, known := h.Healthy(); known {
		c.Healthy = proto.Bool(healthy)
	}
}

// expectedVersion returns the version that a call demands, from the message or the If-Match header.
func expectedVersion(ctx context.Context, inBody uint32) (version uint32, byHeader bool, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("if-match") {
		tag := strings.Trim(strings.TrimPrefix(strings.TrimSpace(v), "W/"), `"`)
		if tag == "*" {
			continue
		}
		n, err := strconv.ParseUint(tag, 10, 32)
		if err != nil || n == 0 {
			return 0, false, invalid("If-Match", v, `has to be a resource's version such as "7", or *`)
		}
		return uint32(n), true, nil
	}
	return inBody, false, nil
}

// change commits one edit and returns the resource as it is then.
func change[M config.Message](ctx context.Context, s *Server, e config.Edit, edit func(v *catalog.Version) (config.Edit, error)) (M, *adminv1.ReplyMeta, error) {
	var none M
	version, byHeader, err := expectedVersion(ctx, e.Version)
	if err != nil {
		return none, nil, err
	}
	var put config.Edit
	done, err := s.commit(ctx, catalog.CommitRequest{
		Author: author(ctx), Message: message(ctx), AllowShrink: true,
		Edits: func(v *catalog.Version) ([]config.Edit, error) {
			put = e
			if edit != nil {
				var err error
				if put, err = edit(v); err != nil {
					return nil, err
				}
			}
			put.Version = version
			return []config.Edit{put}, nil
		},
	})
	if err != nil {
		if byHeader {
			err = ifMatchFailed{err}
		}
		return none, nil, err
	}
	meta := metaOf(done)
	if put.Put == nil {
		return none, meta, nil
	}
	stored := done.Version.Config.ByName(e.Kind, put.Put.GetName())
	return redacted(s, done.Version.Config, stored.Message.(M)), meta, nil
}

func create[M config.Message](ctx context.Context, s *Server, m M) (M, *adminv1.ReplyMeta, error) {
	if !m.ProtoReflect().IsValid() {
		var none M
		return none, nil, invalid("body", "", "is required")
	}
	c := proto.CloneOf(m)
	config.ForgetTyped(c, nil)
	keys := makeKeys(c, nil)
	stored, meta, err := change[M](ctx, s, config.Edit{Kind: config.KindOfMessage(m), Put: c, MustNotExist: true}, nil)
	if err == nil {
		showKeys(stored, keys)
	}
	return stored, meta, err
}

func setString(m proto.Message, name protoreflect.Name, value string) {
	r := m.ProtoReflect()
	r.Set(r.Descriptor().Fields().ByName(name), protoreflect.ValueOfString(value))
}

// updateRequest is what the seven update requests have in common.
type updateRequest interface {
	renewal
	GetUpdateMask() *fieldmaskpb.FieldMask
}

// update replaces a resource, or with a mask some of its fields, or creates it.
func update[M config.Message](ctx context.Context, s *Server, r updateRequest, m M) (M, *adminv1.ReplyMeta, error) {
	if !m.ProtoReflect().IsValid() {
		var none M
		return none, nil, invalid("body", "", "is required")
	}
	return renew[M](ctx, s, config.KindOfMessage(m), r, m.GetVersion(), func(old config.Message) (config.Message, error) {
		if paths := r.GetUpdateMask().GetPaths(); old != nil && len(paths) > 0 {
			next := proto.CloneOf(old)
			return next, applyMask(next.ProtoReflect(), m.ProtoReflect(), paths)
		}
		return proto.CloneOf(config.Message(m)), nil
	})
}

// forgetAnnotated takes what nodes and discovery say out of a service that is put as it was shown.
func (s *Server) forgetAnnotated(m, old config.Message) {
	put, ok := m.(*configv1.Service)
	if !ok {
		return
	}
	now := proto.CloneOf(old.(*configv1.Service))
	s.annotate(now)
	if put.Healthy != nil && now.Healthy != nil && put.GetHealthy() == now.GetHealthy() {
		put.Healthy = nil
	}
	if proto.Equal(put.GetDiscoveredAt(), now.GetDiscoveredAt()) {
		put.DiscoveredAt = nil
	}
	if proto.Equal(put.GetLastHealthCheck(), now.GetLastHealthCheck()) {
		put.LastHealthCheck = nil
	}
	health := map[string]bool{}
	for _, e := range now.GetEndpoints() {
		if e.Healthy != nil {
			health[config.EndpointKey(e)] = e.GetHealthy()
		}
	}
	for _, e := range put.GetEndpoints() {
		if healthy, known := health[config.EndpointKey(e)]; known && e.Healthy != nil && e.GetHealthy() == healthy {
			e.Healthy = nil
		}
	}
}

// renewal is what updates and patches have in common.
type renewal interface {
	GetId() string
	GetAllowMissing() bool
}

// renew puts what next makes of the stored resource in its place, or of nil, where there is none and one may be
// created.
func renew[M config.Message](ctx context.Context, s *Server, k config.Kind, r renewal, version uint32,
	next func(old config.Message) (config.Message, error),
) (M, *adminv1.ReplyMeta, error) {
	var none M
	unless, err := unwanted(ctx)
	if err != nil {
		return none, nil, err
	}
	created := false
	var keys map[string]string
	stored, meta, err := change[M](ctx, s, config.Edit{Kind: k, Version: version}, func(v *catalog.Version) (config.Edit, error) {
		old := v.Config.Lookup(k, r.GetId())
		if created = old == nil && r.GetAllowMissing(); created {
			m, err := next(nil)
			if err != nil {
				return config.Edit{}, err
			}
			config.ForgetTyped(m, nil)
			keys = makeKeys(m, nil)
			return creation(ctx, k, r.GetId(), m)
		}
		if old == nil {
			return config.Edit{}, &config.NotFound{Kind: k, Ref: r.GetId()}
		}
		if unless.holds(old.Message.GetVersion()) {
			return config.Edit{}, failure(fault.PreconditionFailed, fmt.Sprintf("there is %s %q, at version %d, against If-None-Match", k, old.Name(), old.Message.GetVersion()))
		}
		m, err := next(v.Config.AsGiven(config.Redacted(old.Message)))
		if err != nil {
			return config.Edit{}, err
		}
		if m.GetName() == "" {
			setString(m, "name", old.Name())
		}
		s.forgetAnnotated(m, old.Message)
		config.RememberRedacted(m, old.Message)
		config.ForgetTyped(m, old.Message)
		keys = makeKeys(m, old.Message)
		return config.Edit{Kind: k, Put: m, Replace: old.ID(), MustExist: true, AsGiven: true}, nil
	})
	if err == nil {
		meta.Created = created
		showKeys(stored, keys)
	}
	return stored, meta, err
}

// applyMask copies the named fields from src to dst; a field that src does not have is cleared.
func applyMask(dst, src protoreflect.Message, paths []string) error {
	for _, path := range paths {
		d, from := dst, src
		steps := strings.Split(path, ".")
		for i, step := range steps {
			f := d.Descriptor().Fields().ByName(protoreflect.Name(step))
			if f == nil {
				return invalid("update_mask", path, "names a field that is not there"+
					suggest.Clause(step, fieldsOf(d.Descriptor())))
			}
			last := i == len(steps)-1
			if last || f.Kind() != protoreflect.MessageKind || f.IsList() || f.IsMap() || f.Message().FullName() == "google.protobuf.Struct" {
				// Lists, maps and free structures are taken as a whole: their parts have no names of their own in a mask.
				if from.IsValid() && from.Has(f) {
					d.Set(f, from.Get(f))
				} else {
					d.Clear(f)
				}
				break
			}
			if !from.IsValid() || !from.Has(f) {
				d.Clear(f)
				break
			}
			d, from = d.Mutable(f).Message(), from.Get(f).Message()
		}
	}
	return nil
}

func fieldsOf(d protoreflect.MessageDescriptor) []string {
	names := make([]string, d.Fields().Len())
	for i := range names {
		names[i] = string(d.Fields().Get(i).Name())
	}
	return names
}

func remove[M config.Message](ctx context.Context, s *Server, k config.Kind, idOrName string, version uint32) (*adminv1.ReplyMeta, error) {
	_, meta, err := change[M](ctx, s, config.Edit{Kind: k, Delete: idOrName, Version: version}, nil)
	return meta, err
}

// enable sets a resource's field "enabled".
func enable[M config.Message](ctx context.Context, s *Server, k config.Kind, idOrName string, on bool) (M, *adminv1.ReplyMeta, error) {
	return change[M](ctx, s, config.Edit{Kind: k}, func(v *catalog.Version) (config.Edit, error) {
		old := v.Config.Lookup(k, idOrName)
		if old == nil {
			return config.Edit{}, &config.NotFound{Kind: k, Ref: idOrName}
		}
		next := v.Config.AsGiven(old.Message)
		r := next.ProtoReflect()
		r.Set(r.Descriptor().Fields().ByName("enabled"), protoreflect.ValueOfBool(on))
		return config.Edit{Kind: k, Put: next, MustExist: true}, nil
	})
}
