package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"gateway.internal/controlplane/internal/cli"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

func (r *root) describe() *cobra.Command {
	cmd := &cobra.Command{Use: "describe", Short: "Show what the nodes say of a resource"}
	cmd.AddCommand(&cobra.Command{
		Use:   "service NAME",
		Short: "Show a service's endpoints as each node sees them: health, requests in flight, ejections, circuit",
		Args:  args(1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			reply, err := c.Fleet.GetServiceHealth(ctx, &adminv1.GetServiceHealthRequest{Id: given[0]})
			if err != nil {
				return err
			}
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, []*adminv1.ServiceHealth{reply.GetService()}, true)
			}
			return printServiceHealth(cmd.OutOrStdout(), reply.GetService())
		},
	})
	return cmd
}

// printServiceHealth writes a row for each endpoint and node. A node that tells of the service's circuit and not of an
// endpoint neither checks nor uses that.
func printServiceHealth(w io.Writer, s *adminv1.ServiceHealth) error {
	if len(s.GetEndpoints()) == 0 {
		_, err := fmt.Fprintf(w, "service %q has no endpoints\n", s.GetName())
		return err
	}
	circuits := map[string]string{}
	for _, n := range s.GetCircuits() {
		circuits[n.GetNodeId()] = n.GetState()
	}
	var rows [][]string
	for _, e := range s.GetEndpoints() {
		nodes := map[string]*adminv1.NodeEndpointStatus{}
		for id := range circuits {
			nodes[id] = &adminv1.NodeEndpointStatus{NodeId: id}
		}
		for _, n := range e.GetNodes() {
			nodes[n.GetNodeId()] = n
		}
		if len(nodes) == 0 {
			rows = append(rows, []string{address(e), "-", "unknown", "-", "-", "-", "no node has told anything"})
		}
		for _, id := range slices.Sorted(maps.Keys(nodes)) {
			n := nodes[id]
			state, why := statusOf(n)
			rows = append(rows, []string{
				address(e), n.GetNodeId(), state, fmt.Sprint(n.GetInFlight()), fmt.Sprint(n.GetEjections()),
				cli.OrDash(circuits[n.GetNodeId()]), cli.OrDash(why),
			})
		}
	}
	return cli.Table(w, []string{"ENDPOINT", "NODE", "STATE", "IN FLIGHT", "EJECTIONS", "CIRCUIT", "WHY"}, rows)
}

func address(e *adminv1.EndpointStatus) string {
	return config.EndpointKey(&configv1.Endpoint{Host: e.GetHost(), Port: e.GetPort()})
}

// statusOf says how a node stands to an endpoint, and why.
func statusOf(n *adminv1.NodeEndpointStatus) (state, why string) {
	switch {
	case n.Healthy != nil && !n.GetHealthy():
		return "unhealthy", "check failed: " + n.GetError()
	case n.GetEjectedUntil() != nil:
		return "ejected", fmt.Sprintf("%s, until %s", n.GetEjectionReason(), moment(n.GetEjectedUntil()))
	case n.Healthy == nil:
		return "not checked", ""
	case n.GetError() != "":
		return "healthy", "last check failed: " + n.GetError()
	}
	return "healthy", ""
}
