package main

import (
	"slices"
	"testing"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
)

func TestRowsOfCircuits(t *testing.T) {
	rows := circuitRows(&adminv1.CircuitBreaker{Service: "shop", Nodes: []*adminv1.NodeCircuit{
		{NodeId: "a", State: "closed", Concurrent: 3, Limit: 17, P99Ms: 12.34},
		{NodeId: "b", State: "open"},
	}})
	rows = append(rows, circuitRows(&adminv1.CircuitBreaker{Service: "none", State: "closed"})...)
	for i, want := range [][]string{
		{"shop", "a", "closed", "-", "-", "0", "0", "0", "0", "3", "17", "0", "-", "-", "12.3ms"},
		{"shop", "b", "open", "-", "-", "0", "0", "0", "0", "0", "-", "0", "-", "-", "-"},
		{"none", "-", "no node has told anything", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-"},
	} {
		if !slices.Equal(rows[i], want) {
			t.Errorf("%q, want %q", rows[i], want)
		}
	}
}

// TestCircuitsWithNothingToShow says why there is nothing, and whom a change reaches.
func TestCircuitsWithNothingToShow(t *testing.T) {
	nodes := serve(t)
	session(t, "circuits", "circuits")
	const services = `services:
  - {name: plain}
  - {name: pay, circuit_breaker_config: {}}
`
	if out, complaint, code := gatewayctl(t, services, "apply", "-f", "-"); code != 0 {
		t.Fatal(out, complaint)
	}
	session(t, "circuits-unused", "circuits", "circuits plain", "circuits force-open pay", "circuits",
		"describe service plain")
	if n := len(nodes.Nodes()); n != 0 {
		t.Errorf("%d nodes", n)
	}
}
