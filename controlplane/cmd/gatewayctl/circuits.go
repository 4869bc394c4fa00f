package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gateway.internal/controlplane/internal/cli"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
)

func (r *root) circuits() *cobra.Command {
	cmd := &cobra.Command{
		Use: "circuits [SERVICE]", Short: "Show the services' circuits on each node; reset one, or force it open",
		Long: "Show the services' circuits on each node; reset one, or force it open.\n" + scopeOfCircuits, Args: args(0, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			req := &adminv1.ListCircuitBreakersRequest{PerPage: 1000}
			if len(given) == 1 {
				req.Service = given[0]
			}
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			var list []*adminv1.CircuitBreaker
			for req.Page = 1; ; req.Page++ {
				reply, err := c.Health.ListCircuitBreakers(ctx, req)
				if err != nil {
					return cli.Explain(err, nil)
				}
				list = append(list, reply.GetCircuitBreakers()...)
				if len(reply.GetCircuitBreakers()) < int(req.GetPerPage()) {
					break
				}
			}
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, list, len(given) == 1)
			}
			if len(list) == 0 {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "no service has a circuit: that is what circuit_breaker_config gives it")
				return err
			}
			var rows [][]string
			for _, one := range list {
				rows = append(rows, circuitRows(one)...)
			}
			return cli.Table(cmd.OutOrStdout(), []string{"SERVICE", "NODE", "STATE", "SINCE", "UNTIL", "REQUESTS", "FAILED",
				"SLOW", "REJECTED", "UNDER WAY", "LIMIT", "WAITING", "P50", "P95", "P99"}, rows)
		},
	}
	cmd.AddCommand(r.resetCircuit(), r.forceCircuit())
	return cmd
}

// scopeOfCircuits says whom the commands are about.
const scopeOfCircuits = `
Nodes are those that are connected to the control plane that is asked. What is
forced open is in its memory: nodes that connect to it later are told, and a
control plane that starts anew has forgotten it. Where several control planes
share a store, ask each of them.`

// circuitRows are a service's rows: one for each node.
func circuitRows(c *adminv1.CircuitBreaker) (rows [][]string) {
	if len(c.GetNodes()) == 0 {
		state := "no node has told anything"
		if c.GetForcedOpen() {
			state = "forced-open, on nodes that connect"
		}
		row := []string{c.GetService(), "-", state, "-", moment(c.GetForcedUntil())}
		return [][]string{append(row, slices.Repeat([]string{"-"}, 10)...)}
	}
	for _, n := range c.GetNodes() {
		rows = append(rows, []string{c.GetService(), n.GetNodeId(), n.GetState(), moment(n.GetSince()), moment(n.GetUntil()),
			fmt.Sprint(n.GetRequests()), fmt.Sprint(n.GetFailed()), fmt.Sprint(n.GetSlow()), fmt.Sprint(n.GetRejected()),
			fmt.Sprint(n.GetConcurrent()), limit(n.GetLimit()), fmt.Sprint(n.GetPending()), took(n.GetP50Ms()),
			took(n.GetP95Ms()), took(n.GetP99Ms())})
	}
	return rows
}

// limit is a number of requests; 0: any.
func limit(n uint32) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// took is a time in milliseconds; 0: it is not known.
func took(ms float64) string {
	if ms == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1fms", ms)
}

// moment returns a time for a table.
func moment(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Format(time.RFC3339)
}

func (r *root) resetCircuit() *cobra.Command {
	return &cobra.Command{
		Use: "reset SERVICE", Short: "Close a service's circuit on all nodes, and forget what it has learned",
		Long: "Close a service's circuit on all nodes, and forget what it has learned.\n" + scopeOfCircuits, Args: args(1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			reply, err := c.Health.ResetCircuitBreaker(ctx, &adminv1.ResetCircuitBreakerRequest{Service: given[0]})
			if err != nil {
				return cli.Explain(err, nil)
			}
			return r.printCircuit(cmd, reply.GetChange(), "reset")
		},
	}
}

func (r *root) forceCircuit() *cobra.Command {
	var lasts time.Duration
	cmd := &cobra.Command{
		Use: "force-open SERVICE", Short: "Keep all requests from a service, until its circuit is reset",
		Long: "Keep all requests from a service, until its circuit is reset.\n" + scopeOfCircuits, Args: args(1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			req := &adminv1.ForceOpenCircuitBreakerRequest{Service: given[0]}
			if cmd.Flags().Changed("duration") {
				req.Duration = lasts.String()
			}
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			reply, err := c.Health.ForceOpenCircuitBreaker(ctx, req)
			if err != nil {
				return cli.Explain(err, nil)
			}
			return r.printCircuit(cmd, reply.GetChange(), "forced open")
		},
	}
	cmd.Flags().DurationVar(&lasts, "duration", 0, "for how long, 1s to 720h; without it until the circuit is reset")
	return cmd
}

// printCircuit says what was done.
func (r *root) printCircuit(cmd *cobra.Command, change *adminv1.CircuitChange, did string) error {
	if r.output != "table" {
		return cli.Print(cmd.OutOrStdout(), r.output, []*adminv1.CircuitChange{change}, true)
	}
	nodes := "nodes"
	if change.GetNodes() == 1 {
		nodes = "node"
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "the circuit of service %q is %s on %d %s of the control plane at %s\n",
		change.GetService(), did, change.GetNodes(), nodes, r.set.Server)
	return err
}
