package sql

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"gateway.internal/controlplane/internal/store"
)

// TestTokensAreBounded: tokens that let nobody in make room, and those that do are no more than there may be.
func TestTokensAreBounded(t *testing.T) {
	s := opener("embedded:" + filepath.Join(t.TempDir(), "gateway.db"))(t).(*Store)
	defer s.Close()
	s.maxTokens = 3
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	create := func(i int, ends time.Duration) error {
		one := store.Token{ID: fmt.Sprint(i), Name: fmt.Sprint("n", i), CreatedAt: now.Add(time.Duration(i) * time.Second)}
		one.ExpiresAt = one.CreatedAt.Add(ends)
		copy(one.Hash[:], one.ID)
		return s.CreateToken(t.Context(), one)
	}
	for i, ends := range []time.Duration{time.Hour, time.Microsecond, time.Hour, time.Hour} { // the second one makes room
		if err := create(i, ends); err != nil {
			t.Fatalf("token %d: %v", i, err)
		}
	}
	if err := create(4, time.Hour); !errors.Is(err, store.ErrTooManyTokens) {
		t.Errorf("one more: %v", err)
	}
	if list, _, err := s.Tokens(t.Context(), -1); err != nil || len(list) != 3 || list[0].ID != "0" || list[1].ID != "2" {
		t.Errorf("there are %v, %v", list, err)
	}
}
