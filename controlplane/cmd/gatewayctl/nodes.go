package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gateway.internal/controlplane/internal/cli"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/terminal"
)

func (r *root) nodes() *cobra.Command {
	filter := &adminv1.ListNodesRequest{}
	cmd := &cobra.Command{
		Use: "nodes [ID]", Short: "Show the nodes: what each runs, and what it refused", Args: args(0, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := cli.Connect(r.set)
			if err != nil {
				return err
			}
			defer c.Close()
			var list []*adminv1.Node
			if len(given) == 1 {
				ctx, cancel := c.Context(cmd.Context())
				defer cancel()
				reply, err := c.Fleet.GetNode(ctx, &adminv1.GetNodeRequest{Id: given[0]})
				if err != nil {
					return err
				}
				list = append(list, reply.GetNode())
			} else if list, err = c.Nodes(cmd.Context(), filter); err != nil {
				return err
			}
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, list, len(given) == 1)
			}
			rows := make([][]string, len(list))
			for i, n := range list {
				rows[i] = nodeCells(n)
			}
			if err := cli.Table(cmd.OutOrStdout(), nodeHeadings(), rows); err != nil || len(given) == 0 {
				return err
			}
			return printServed(cmd.OutOrStdout(), list[0])
		},
	}
	cmd.AddCommand(r.revokeNode(), r.readmitNode(), r.revokedNodes())
	f := cmd.Flags()
	f.StringVar(&filter.Group, "group", "", "only those of this group")
	f.StringArrayVarP(&filter.Labels, "label", "l", nil, "only those with this label, key=value or key; may be repeated")
	f.Uint32Var(&filter.Page, "page", 0, "only this page, from 1; 0: all")
	f.Uint32Var(&filter.PerPage, "per-page", 100, "how many are on a page, 1 to 1000")
	return cmd
}

func nodeHeadings() []string {
	return []string{"NODE", "HOST", "GROUP", "LABELS", "STATE", "REVISION", "LAG", "APPLIED IN", "REQUESTS/S",
		"BUILD", "LAST REFUSED"}
}

// printServed shows what a node is to run, where that is not the newest revision, and what it has served by revision,
// the newest first.
func printServed(w io.Writer, n *adminv1.Node) error {
	if n.GetTargetRevision() > 0 {
		text := fmt.Sprintf("It is to run revision %d.", n.GetTargetRevision())
		if why := n.GetTargetProblem(); why != "" {
			text += " It can't be given that: " + why
		}
		if _, err := fmt.Fprintf(w, "\n%s\n", terminal.Line(text)); err != nil {
			return err
		}
	}
	if len(n.GetServed()) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	served := slices.SortedStableFunc(slices.Values(n.GetServed()), func(a, b *adminv1.RevisionTraffic) int {
		return cmp.Compare(b.GetRevision(), a.GetRevision())
	})
	var rows [][]string
	for _, t := range served {
		revision := "none: before the first"
		if t.GetRevision() > 0 {
			revision = fmt.Sprint(t.GetRevision())
		}
		rows = append(rows, []string{revision, fmt.Sprint(t.GetRequests()), fmt.Sprint(t.GetErrors()),
			fmt.Sprintf("%.2f%%", 100*t.GetErrorRatio()), fmt.Sprintf("%.1fms", t.GetMeanMs()),
			t.GetLastAt().AsTime().Format(time.RFC3339)})
	}
	headings := []string{"SERVED BY REVISION", "REQUESTS", "ERRORS", "ERROR RATIO", "MEAN", "LAST REPORTED"}
	return cli.Table(w, headings, rows)
}

// placeOf names the first resource that is the cause of problems; it is empty where none is.
func placeOf(problems []*adminv1.Problem) string {
	p := problems[0]
	if p.GetKind() == "" {
		return ""
	}
	place := fmt.Sprintf(" (%s %s %s", p.GetKind(), p.GetName(), p.GetField())
	if more := len(problems) - 1; more > 0 {
		place += fmt.Sprintf(" and %d more", more)
	}
	return place + ")"
}

// nodeCells are a row under nodeHeadings.
func nodeCells(n *adminv1.Node) []string {
	state := "connected"
	switch {
	case !n.GetConnected():
		state = "gone"
	case n.GetConflict() != nil:
		state = "id taken twice"
	case n.GetRefuses() != nil:
		state = fmt.Sprint("refuses ", n.GetRefuses().GetRevision())
	case len(n.GetDegraded()) > 0:
		state = "degraded" + placeOf(n.GetDegraded())
	}
	refused := "-"
	if rej := n.GetLastRejection(); rej != nil {
		refused = fmt.Sprint("revision ", rej.GetRevision())
		if p := rej.GetProblems(); len(p) > 0 {
			refused += fmt.Sprintf(": %s %s %s", p[0].GetKind(), p[0].GetName(), p[0].GetMessage())
		}
	}
	var labels []string
	for _, k := range slices.Sorted(maps.Keys(n.GetLabels())) {
		labels = append(labels, k+"="+n.GetLabels()[k])
	}
	return []string{
		n.GetId(), cli.OrDash(n.GetHost()), cli.OrDash(n.GetGroup()), cli.OrDash(strings.Join(labels, ",")), state,
		fmt.Sprint(n.GetRevision()), fmt.Sprint(n.GetLag()),
		fmt.Sprintf("%.1fms", n.GetPropagationMs()), fmt.Sprintf("%.0f", n.GetRequestsPerSecond()), n.GetBuild(), refused,
	}
}
