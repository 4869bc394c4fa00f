package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestManyProblems: a configuration that is wrong throughout gets an answer of a size that can be sent, and harms
// nobody else's calls.
func TestManyProblems(t *testing.T) {
	a := newAPI(t)
	type r struct {
		Name string `json:"name"`
		Path string `json:"path"`
		ID   string `json:"service_id"`
	}
	var routes []r
	for i := range 40_000 {
		routes = append(routes, r{fmt.Sprint("r", i), strings.Repeat("x", 300), fmt.Sprint("nothing-", i)})
	}
	body, err := json.Marshal(map[string]any{"routes": routes})
	if err != nil {
		t.Fatal(err)
	}
	var others sync.WaitGroup
	for i := range 8 {
		others.Go(func() {
			body := fmt.Sprintf(`{"name": "s%d", "endpoints": [{"host": "127.0.0.1", "port": 9000}]}`, i)
			if r := a.call("POST", "/api/v1/config/services", body); r.status != http.StatusCreated {
				t.Errorf("another one's change: %d %s", r.status, r.raw)
			}
		})
	}
	got := a.call("POST", "/api/v1/config/apply", string(body))
	others.Wait()
	if got.status != http.StatusBadRequest && got.status != http.StatusUnprocessableEntity || len(got.Error.Details) != maxProblems+1 {
		t.Fatalf("got %d with %d details: %.300s", got.status, len(got.Error.Details), got.raw)
	}
	if last := fmt.Sprint(got.Error.Details[maxProblems]["message"]); !strings.Contains(got.Error.Message, "80000 problems") || !strings.Contains(last, "79900 more") {
		t.Errorf("%q, and at the end %q", got.Error.Message, last)
	}
}
