package catalog_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/catalog"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
	"gateway.internal/shared/match"
	"gateway.internal/shared/waittest"
)

// rules are the routes of a table, in its order.
func rules(t *match.Table) (ids []string) {
	for _, r := range t.All() {
		ids = append(ids, r.ID)
	}
	return ids
}

// TestAnyEditsOfTwoBuilds has two replicas of this build and one of a later one commit at random, resources with fields
// that this build does not know among them. Whoever follows, whoever begins anew and whoever goes back in the history
// comes to the same content, with the same table of routes as is compiled from nothing.
func TestAnyEditsOfTwoBuilds(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			s, follow := shared(t)
			one, _ := follow()
			other, _ := follow()
			hashes := map[uint32][32]byte{}
			for step := range 30 {
				by := []*catalog.Catalog{one, other}[random.IntN(2)]
				if err := by.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				v := by.Current()
				name := fmt.Sprint("x", random.IntN(5))
				var m config.Message = &configv1.Route{Name: name, Path: fmt.Sprintf("/%d/*", random.IntN(3)),
					Priority: int32(random.IntN(3)), DirectResponse: &configv1.DirectResponse{Body: fmt.Sprint(step)}}
				if random.IntN(2) == 0 {
					m = &configv1.Consumer{Name: name, Groups: []string{fmt.Sprint(step)}}
				}
				kind := config.KindOfMessage(m)
				there := v.Config.ByName(kind, name)
				switch {
				case random.IntN(3) == 0: // the later build
					m = proto.CloneOf(m)
					id := fmt.Sprintf("00000000-0000-0000-0000-%012d", step)
					if there != nil {
						id = there.ID()
					}
					setID(m, id)
					commitChange(t, s, config.Change{Kind: kind, Before: there, After: configtest.Newer(t, m)})
				default:
					edit := config.Edit{Kind: kind, Put: m}
					if there != nil && random.IntN(2) == 0 {
						edit = config.Edit{Kind: kind, Delete: name}
					}
					if _, err := by.Commit(t.Context(), catalog.CommitRequest{AllowShrink: true,
						Edits: func(*catalog.Version) ([]config.Edit, error) { return []config.Edit{edit}, nil }}); err != nil {
						t.Fatal(err)
					}
				}
				if err := by.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				now := by.Current()
				hashes[now.Revision] = now.Config.Hash()
				anew, err := config.Empty().With(config.Diff(config.Empty(), now.Config))
				if err != nil {
					t.Fatal(err)
				}
				if anew.Hash() != now.Config.Hash() || !slices.Equal(rules(anew.Table()), rules(now.Config.Table())) ||
					len(anew.Unknown()) != len(now.Config.Unknown()) {
					t.Fatalf("step %d: step by step the table is %v, at once %v", step, rules(now.Config.Table()), rules(anew.Table()))
				}
			}
			last := uint32(len(hashes))
			waittest.UntilNil(t, "both to follow", func() error {
				for _, c := range []*catalog.Catalog{one, other} {
					if v := c.Current(); v.Revision < last || v.Config.Hash() != hashes[v.Revision] {
						return errors.New("not followed")
					}
				}
				return nil
			})
			fresh, _ := follow()
			for number, hash := range hashes {
				v, err := fresh.VersionAt(t.Context(), fresh.Current().Epoch, number)
				if err != nil || v.Config.Hash() != hash || v.Revision != number {
					t.Errorf("revision %d: %v", number, err)
				}
			}
		})
	}
}

func setID(m config.Message, id string) {
	now := timestamppb.New(time.Unix(1, 0))
	switch m := m.(type) {
	case *configv1.Route:
		m.Id, m.CreatedAt, m.UpdatedAt, m.Version = id, now, now, 1
	case *configv1.Consumer:
		m.Id, m.CreatedAt, m.UpdatedAt, m.Version = id, now, now, 1
	}
}
