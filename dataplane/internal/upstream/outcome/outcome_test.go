package outcome

import "testing"

func TestFailed(t *testing.T) {
	for _, c := range []struct {
		name            string
		result          Result
		telling, failed bool
	}{
		{"the zero value", Result{}, false, false},
		{"a good response", Result{Kind: Answered, Status: 200}, true, false},
		{"the client's fault", Result{Kind: Answered, Status: 499}, true, false},
		{"the service's fault", Result{Kind: Answered, Status: 500}, true, true},
		{"no connection", Result{Kind: ConnectFailed}, true, true},
		{"a reset", Result{Kind: Reset}, true, true},
		{"a reset within a response", Result{Kind: Reset, Status: 200}, true, true},
		{"late", Result{Kind: TimedOut}, true, true},
		{"malformed", Result{Kind: Invalid}, true, true},
		{"not looked at", Result{Kind: Refused}, false, false},
		{"the pool's limit", Result{Kind: Overloaded}, false, false},
	} {
		if telling, failed := c.result.Telling(), c.result.Failed(); telling != c.telling || failed != c.failed {
			t.Errorf("%s (%s): telling %t, failed %t; want %t, %t", c.name, c.result.Kind, telling, failed, c.telling, c.failed)
		}
	}
}

func TestStatusOfRPC(t *testing.T) {
	for status, want := range map[string]int{
		"": 207, "0": 200, "1": 200, "5": 200, "8": 200, "16": 200, "2": 500, "13": 500, "15": 500, "14": 503, "4": 504,
	} {
		if got := StatusOfRPC(status, 207); got != want {
			t.Errorf("grpc-status %q: got %d, want %d", status, got, want)
		}
	}
}
