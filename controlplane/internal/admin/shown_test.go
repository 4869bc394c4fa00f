package admin

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// bodies returns a configuration of n routes with bodies of a size, and what leads there.
func bodies(t *testing.T, from *config.Config, n, size int, text string) (*config.Config, []config.Change) {
	t.Helper()
	var edits []config.Edit
	for i := range n {
		edits = append(edits, config.Edit{Kind: config.Route, Put: &configv1.Route{
			Name: fmt.Sprintf("r%06d", i), Path: fmt.Sprint("/", i),
			DirectResponse: &configv1.DirectResponse{Body: strings.Repeat(text, size)},
		}})
	}
	ids := 0
	plan, err := from.Plan(edits, config.PlanOptions{Now: time.Unix(int64(from.Len(config.Route)), 0),
		NewID: func() string { ids++; return fmt.Sprint("id-", ids) }})
	if err != nil {
		t.Fatal(err)
	}
	return plan.Config, plan.Changes
}

// TestRepliesStayBelowWhatIsSent: a change of whatever size that may be committed has a reply, which says what it
// leaves out.
func TestRepliesStayBelowWhatIsSent(t *testing.T) {
	before, _ := bodies(t, config.Empty(), 600, 60<<10, "a")
	after, changes := bodies(t, before, 600, 60<<10, "b")
	meta := &adminv1.ReplyMeta{}
	reply := &adminv1.ApplyConfigurationResponse{Changes: show(before, after, changes, meta), Meta: meta}
	if n := proto.Size(reply); n > 24<<20 || n < 8<<20 || len(reply.GetChanges()) != 600 {
		t.Errorf("%d changes in %d bytes", len(reply.GetChanges()), n)
	}
	if w := meta.GetWarnings(); len(w) != 1 || !strings.Contains(w[0].GetMessage(),
		"of 600 changes 464 are named without their fields, and 0 are left out") {
		t.Errorf("warnings: %v", w)
	}
	if first, last := reply.GetChanges()[0], reply.GetChanges()[599]; len(first.GetFields()) == 0 ||
		len(last.GetFields()) != 0 || last.GetName() != "r000599" {
		t.Errorf("the first has %d fields, the last is %v", len(first.GetFields()), last)
	}
}

func TestShownChanges(t *testing.T) {
	before, created := bodies(t, config.Empty(), 10, 100, "a")
	after, updated := bodies(t, before, 10, 100, "b")
	again, back := bodies(t, after, 10, 100, "a") // as before, but for the versions
	for _, c := range []struct {
		name             string
		limit            showing
		from, to         *config.Config
		changes          []config.Change
		named, withField int
		warning          string
	}{
		{"all", showing{1 << 20, 100}, before, after, updated, 10, 10, ""},
		{"some with fields", showing{1000, 100}, before, after, updated, 10, 3,
			"of 10 changes 7 are named without their fields, and 0 are left out"},
		{"some not at all", showing{1 << 20, 7}, config.Empty(), before, created, 7, 7,
			"of 10 changes 0 are named without their fields, and 3 are left out"},
		{"both", showing{1000, 7}, before, after, updated, 7, 3,
			"of 10 changes 4 are named without their fields, and 3 are left out"},
		{"versions alone", showing{0, 7}, before, again, config.Diff(before, again), 0, 0, ""},
		{"back", showing{0, 100}, after, again, back, 10, 0, "of 10 changes 10 are named without"},
	} {
		meta := &adminv1.ReplyMeta{}
		list := c.limit.show(c.from, c.to, c.changes, meta)
		fields := 0
		for _, ch := range list {
			if len(ch.GetFields()) > 0 {
				fields++
			}
		}
		text := fmt.Sprint(meta.GetWarnings())
		if len(list) != c.named || fields != c.withField || !strings.Contains(text, c.warning) || c.warning == "" &&
			len(meta.GetWarnings()) > 0 {
			t.Errorf("%s: %d changes, %d of them with fields, %s", c.name, len(list), fields, text)
		}
	}
}
