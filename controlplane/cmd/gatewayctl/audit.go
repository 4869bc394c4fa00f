package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gateway.internal/controlplane/internal/cli"
	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
)

func (r *root) audit() *cobra.Command {
	req := &adminv1.ListAuditRequest{}
	var since time.Duration
	cmd := &cobra.Command{
		Use: "audit", Short: "Show who changed what, and who was refused, the newest first", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("since") {
				if since <= 0 {
					return &cli.UsageError{Message: fmt.Sprintf("--since %s: has to be above 0", since)}
				}
				req.Since = since.String()
			}
			ctx, c, done, err := r.connect(cmd)
			if err != nil {
				return err
			}
			defer done()
			reply, err := c.Audit.ListAudit(ctx, req)
			if err != nil {
				return cli.Explain(err, nil)
			}
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, reply.GetEntries(), false)
			}
			var rows [][]string
			for _, e := range reply.GetEntries() {
				rows = append(rows, []string{moment(e.GetAt()), cli.OrDash(e.GetActor()), cli.OrDash(e.GetAddress()),
					e.GetCall(), outcome(e), cli.OrDash(touched(e))})
			}
			return cli.Table(cmd.OutOrStdout(), []string{"AT", "WHO", "FROM", "CALL", "OUTCOME", "WHAT"}, rows)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Actor, "actor", "", "only by this one")
	f.StringVar(&req.Address, "address", "", "only from this address")
	f.StringVar(&req.Call, "call", "", "only of this call, such as RouteConfigService/CreateRoute")
	f.StringVar(&req.Outcome, "outcome", "", "only done, or only refused")
	f.StringVar(&req.Kind, "kind", "", "only changes of this kind, such as routes")
	f.StringVar(&req.Name, "name", "", "only changes of what has this name")
	f.Uint32Var(&req.Revision, "revision", 0, "only what led to this revision")
	f.DurationVar(&since, "since", 0, "only what was in this time, such as 24h")
	f.Uint32Var(&req.Page, "page", 1, "which page, from 1")
	f.Uint32Var(&req.PerPage, "per-page", 50, "how many are on a page, 1 to 1000")
	return cmd
}

func outcome(e *adminv1.AuditEntry) string {
	text := e.GetOutcome()
	if e.GetCode() != "" {
		text += " " + e.GetCode()
	}
	if e.GetCount() > 1 {
		text += fmt.Sprintf(" (%d times)", e.GetCount())
	}
	return text
}

// touched is what an entry is about, in one line.
func touched(e *adminv1.AuditEntry) string {
	var parts []string
	if e.GetRevision() > 0 {
		parts = append(parts, fmt.Sprint("revision ", e.GetRevision()))
	}
	signs := map[adminv1.Change_Action]string{
		adminv1.Change_ACTION_CREATED: "+", adminv1.Change_ACTION_UPDATED: "~", adminv1.Change_ACTION_DELETED: "-",
	}
	for _, ch := range e.GetChanges()[:min(len(e.GetChanges()), 3)] {
		parts = append(parts, signs[ch.GetAction()]+ch.GetKind()+" "+ch.GetName())
	}
	if more := int(e.GetChangeCount()) - 3; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	if e.GetReason() != "" {
		parts = append(parts, e.GetReason())
	}
	return strings.Join(parts, ", ")
}
