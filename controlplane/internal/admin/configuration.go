package admin

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/catalog"
	"gateway.internal/controlplane/internal/store"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/file"
)

// configurationService serves the configuration as a whole.
type configurationService struct {
	adminv1.UnimplementedConfigurationServiceServer
	*Server
}

// desiredEdits returns the edits that lead from a version to a configuration.
func desiredEdits(v *catalog.Version, c *configv1.Configuration, prune bool) []config.Edit {
	edits := file.Edits(c)
	if !prune {
		return edits
	}
	for _, k := range config.Kinds() {
		keep := map[string]bool{}
		for _, m := range file.Resources(c, k) {
			keep[m.GetName()] = true
			keep[m.GetId()] = true
		}
		for _, e := range v.Config.Sorted(k) {
			if !keep[e.Name()] && !keep[e.ID()] && !config.IsTransient(e.Message) {
				edits = append(edits, config.Edit{Kind: k, Delete: e.ID()})
			}
		}
	}
	return edits
}

func (s configurationService) ApplyConfiguration(
	ctx context.Context, r *adminv1.ApplyConfigurationRequest,
) (*adminv1.ApplyConfigurationResponse, error) {
	if err := checkTexts(r.GetMessage(), r.GetAuthor()); err != nil {
		return nil, err
	}
	if err := s.sealPasswords(ctx, r.GetConfiguration().GetConsumers()); err != nil {
		return nil, err
	}
	done, err := s.commit(ctx, catalog.CommitRequest{
		Author: author(ctx, r.GetAuthor()), Message: r.GetMessage(), AllowShrink: r.GetAllowShrink(),
		DryRun: r.GetDryRun(), ExpectedRevision: r.GetExpectedRevision(),
		Edits: func(v *catalog.Version) ([]config.Edit, error) {
			return desiredEdits(v, r.GetConfiguration(), r.GetPrune()), nil
		},
	})
	if err != nil {
		return nil, err
	}
	meta := metaOf(done)
	return &adminv1.ApplyConfigurationResponse{Changes: changesOf(done, meta), Committed: done.Committed, Meta: meta}, nil
}

// sealPasswords hashes the passwords of consumers that are put, before the turn of the commit: each takes a processor
// some 20 ms, while others would wait.
func (s configurationService) sealPasswords(ctx context.Context, consumers []*configv1.Consumer) error {
	v := s.catalog.Current()
	if v == nil {
		return nil // the commit says so
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, m := range consumers {
		if len(m.GetCredentials().GetBasic()) == 0 {
			continue
		}
		group.Go(func() error {
			var stored *configv1.Consumer
			if e := v.Config.ByName(config.Consumer, m.GetName()); e != nil {
				stored = e.Message.(*configv1.Consumer)
			}
			config.SealPasswords(m, stored)
			return ctx.Err()
		})
	}
	return group.Wait()
}

func metaOf(done *catalog.Committed) *adminv1.ReplyMeta {
	return &adminv1.ReplyMeta{Revision: done.Version.Revision, Warnings: problemsOf(done.Plan.Warnings())}
}

func (s configurationService) ValidateConfiguration(
	ctx context.Context, r *adminv1.ValidateConfigurationRequest,
) (*adminv1.ValidateConfigurationResponse, error) {
	out := &adminv1.ValidateConfigurationResponse{Valid: true, Meta: &adminv1.ReplyMeta{}}
	var stored *config.Config
	v := s.catalog.Current()
	if v != nil {
		out.Meta.Revision, stored = v.Revision, v.Config
	}
	edits := file.Edits(r.GetConfiguration())
	if err := checkSecrets(ctx, v, edits); err != nil {
		return nil, err
	}
	n := 0
	plan, err := config.Empty().Plan(edits, config.PlanOptions{
		Now: time.Now(), Stored: stored, NewID: func() string { n++; return fmt.Sprint("new-", n) },
	})
	switch e := err.(type) { // Plan returns these as they are
	case nil:
		out.Meta.Warnings = problemsOf(plan.Warnings())
	case config.Problems:
		out.Valid, out.Problems = false, problemsOf(e)
	default:
		out.Valid, out.Problems = false, []*adminv1.Problem{{Message: err.Error()}}
	}
	return out, nil
}

func (s configurationService) DiffConfiguration(
	ctx context.Context, r *adminv1.DiffConfigurationRequest,
) (*adminv1.DiffConfigurationResponse, error) {
	v, err := s.version()
	if err != nil {
		return nil, err
	}
	at := func(n uint32) (*config.Config, error) {
		if n == 0 {
			return v.Config, nil
		}
		return s.catalog.ConfigAt(ctx, n)
	}
	from, err := at(r.GetFrom())
	if err != nil {
		return nil, err
	}
	meta := &adminv1.ReplyMeta{Revision: v.Revision}
	if r.GetConfiguration() == nil {
		to, err := at(r.GetTo())
		if err != nil {
			return nil, err
		}
		return &adminv1.DiffConfigurationResponse{Changes: show(from, to, config.Diff(from, to), meta), Meta: meta}, nil
	}
	n := 0
	base := &catalog.Version{Config: from}
	newID := func() string { n++; return fmt.Sprint("new-", n) }
	edits := desiredEdits(base, r.GetConfiguration(), r.GetPrune())
	if err := checkSecrets(ctx, base, edits); err != nil {
		return nil, err
	}
	plan, err := from.Plan(edits, config.PlanOptions{Now: time.Now(), AllowShrink: true, NewID: newID})
	if err != nil {
		return nil, err
	}
	meta.Warnings = problemsOf(plan.Warnings())
	return &adminv1.DiffConfigurationResponse{Changes: show(from, plan.Config, plan.Changes, meta), Meta: meta}, nil
}

func (s configurationService) ListRevisions(
	ctx context.Context, r *adminv1.ListRevisionsRequest,
) (*adminv1.ListRevisionsResponse, error) {
	_, meta, err := cut([]int{}, r, 0)
	if err != nil {
		return nil, err
	}
	v, err := s.version()
	if err != nil {
		return nil, err
	}
	through := cmp.Or(r.GetRevision(), v.Revision)
	if through > v.Revision {
		return nil, &store.NotFoundError{Number: through}
	}
	list, total, err := s.store.Revisions(ctx, store.List{
		Author: r.GetAuthor(), Through: through, Offset: int(meta.Page-1) * int(meta.PerPage), Limit: int(meta.PerPage),
	})
	if err != nil {
		return nil, err
	}
	meta.Total = uint32(total)
	meta.Revision = through
	out := &adminv1.ListRevisionsResponse{Meta: meta}
	for _, r := range list {
		out.Revisions = append(out.Revisions, revisionOf(r))
	}
	return out, nil
}

func revisionOf(r store.Revision) *adminv1.Revision {
	return &adminv1.Revision{
		Number: r.Number, CreatedAt: timestamppb.New(r.At), Author: r.Author, Message: r.Message, RollbackOf: r.RollbackOf,
		ChangeCount: uint32(r.ChangeCount), PurgedCount: uint32(r.PurgedCount),
	}
}

func (s configurationService) GetRevision(
	ctx context.Context, r *adminv1.GetRevisionRequest,
) (*adminv1.GetRevisionResponse, error) {
	v, err := s.version()
	if err != nil {
		return nil, err
	}
	rev, err := s.store.Revision(ctx, r.GetNumber())
	if err != nil {
		return nil, err
	}
	out := revisionOf(rev)
	// Names in references are those of then where they can be had, else of now.
	then := v.Config
	if at := s.catalog.At(v.Epoch, r.GetNumber()); at != nil {
		then = at.Config
	}
	meta := &adminv1.ReplyMeta{Revision: v.Revision}
	out.Changes = show(then, then, rev.Changes, meta)
	return &adminv1.GetRevisionResponse{Revision: out, Meta: meta}, nil
}

func (s configurationService) RollbackRevision(
	ctx context.Context, r *adminv1.RollbackRevisionRequest,
) (*adminv1.RollbackRevisionResponse, error) {
	if err := checkTexts(r.GetMessage(), r.GetAuthor()); err != nil {
		return nil, err
	}
	if r.GetNumber() == 0 { // before the first one there was nothing to go back to
		return nil, &store.NotFoundError{}
	}
	target, err := s.catalog.ConfigAt(ctx, r.GetNumber())
	if err != nil {
		return nil, err
	}
	var replaced config.Problems
	done, err := s.commit(ctx, catalog.CommitRequest{
		Author:     author(ctx, r.GetAuthor()),
		Message:    cmp.Or(r.GetMessage(), fmt.Sprint("rollback to revision ", r.GetNumber())),
		RollbackOf: r.GetNumber(), AllowShrink: r.GetAllowShrink(), DryRun: r.GetDryRun(), Restore: true,
		Edits: func(v *catalog.Version) (edits []config.Edit, err error) {
			edits, replaced, err = back(v.Config, target, r.GetNumber())
			return edits, err
		},
	})
	if err != nil {
		return nil, err
	}
	meta := metaOf(done)
	meta.Warnings = problemsOf(slices.Concat(replaced, done.Plan.Warnings()))
	return &adminv1.RollbackRevisionResponse{Changes: changesOf(done, meta), Committed: done.Committed, Meta: meta}, nil
}

// back returns the edits that lead from now to what was at a revision. Secrets that were purged from the history and
// can't be had otherwise are Problems. Of a value of the environment that the same field of now has with the same text
// the one of now is used, which is told in replaced.
func back(now, then *config.Config, number uint32) (edits []config.Edit, replaced config.Problems, err error) {
	var missing config.Problems
	for _, ch := range config.Diff(now, then) {
		if isTransient(ch) {
			continue
		}
		if ch.After == nil {
			edits = append(edits, config.Edit{Kind: ch.Kind, Delete: ch.ID()})
			continue
		}
		put := ch.After.Message
		if m, ok := put.(*configv1.Certificate); ok {
			var have bool
			if put, have = withKey(now, m); !have {
				missing = append(missing, config.Problem{Kind: config.Certificate, Name: m.GetName(), Field: "key_pem",
					Message: fmt.Sprintf("was purged from the history, and is no current one: "+
						"export revision %d, add the key, and apply that with prune", number)})
			}
		}
		same, _ := ch.Messages()
		if e := now.ByName(ch.Kind, ch.Name()); same == nil && e != nil {
			same = e.Message // which was removed and created again since
		}
		put = proto.CloneOf(put)
		known, unknown := config.PutValuesBack(put, same)
		about := func(path, format string) config.Problem {
			return config.Problem{Kind: ch.Kind, Name: put.GetName(), Field: path,
				Value: put.GetEnvironment()[path], Message: fmt.Sprintf(format, number)}
		}
		for _, path := range known {
			replaced = append(replaced, about(path, "has the value of now: that of revision %d was purged from the history"))
		}
		for _, path := range unknown {
			missing = append(missing, about(path, "had a value of the environment that was purged from the history: "+
				"export revision %d, and apply that with prune where the variable is set"))
		}
		edits = append(edits, config.Edit{Kind: ch.Kind, Put: put})
	}
	if len(missing) > 0 {
		return nil, nil, missing
	}
	return edits, replaced, nil
}

// withKey completes a certificate whose key was purged from the history by a key of now that goes with it, and reports
// whether there is one. One that ACME keeps valid is obtained anew.
func withKey(now *config.Config, m *configv1.Certificate) (config.Message, bool) {
	if m.GetCertPem() == "" || m.GetKeyPem() != "" {
		return m, true
	}
	c := proto.CloneOf(m)
	for e := range now.All(config.Certificate) {
		key := e.Message.(*configv1.Certificate).GetKeyPem()
		if _, err := tls.X509KeyPair([]byte(m.GetCertPem()), []byte(key)); err == nil {
			c.KeyPem = key
			return c, true
		}
	}
	if m.GetAcme() != nil {
		c.CertPem, c.Obtained = "", nil
		return c, true
	}
	return m, false
}

// isTransient reports whether a change is of what no configuration file has.
func isTransient(ch config.Change) bool {
	before, after := ch.Messages()
	return before != nil && config.IsTransient(before) || after != nil && config.IsTransient(after)
}
