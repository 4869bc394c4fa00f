package main

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"gateway.internal/controlplane/internal/cli"
	"gateway.internal/shared/config"
)

func kind(s string) (config.Kind, error) {
	k, err := config.ParseKind(s)
	if err != nil {
		return 0, &cli.UsageError{Message: err.Error()}
	}
	return k, nil
}

// complete offers kinds, and then names that the control plane has.
func (r *root) complete(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	var out []string
	if len(given) == 0 {
		for _, k := range config.Kinds() {
			out = append(out, k.Plural())
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
	k, err := config.ParseKind(given[0])
	if err != nil || len(given) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	set := r.set
	set.Timeout = 2 * time.Second
	c, err := cli.Connect(set)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	list, err := c.List(cmd.Context(), k, cli.Filter{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, m := range list {
		out = append(out, m.GetName())
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (r *root) get() *cobra.Command {
	var filter cli.Filter
	cmd := &cobra.Command{
		Use: "get KIND [NAME]", Short: "Show resources: all of a kind, one page of them, or one",
		Long: "Show resources: all of a kind, one page of them, or one.\n\n" +
			"With -o json they are as the control plane keeps them. With -o yaml they are a file for apply: without ids,\n" +
			"versions and times.",
		Args: args(1, 2), ValidArgsFunction: r.complete,
		RunE: func(cmd *cobra.Command, given []string) error {
			k, err := kind(given[0])
			if err != nil {
				return err
			}
			c, err := cli.Connect(r.set)
			if err != nil {
				return err
			}
			defer c.Close()
			var list []config.Message
			if len(given) == 2 {
				m, err := c.Get(cmd.Context(), k, given[1])
				if err != nil {
					return err
				}
				list = append(list, m)
			} else if list, err = c.List(cmd.Context(), k, filter); err != nil {
				return err
			}
			if r.output == "json" {
				return cli.Print(cmd.OutOrStdout(), r.output, list, len(given) == 2)
			}
			if err := nameReferences(cmd, c, list); err != nil {
				return err
			}
			if r.output == "yaml" {
				return cli.PrintFile(cmd.OutOrStdout(), list)
			}
			headings, rows := cli.Rows(k, list)
			return cli.Table(cmd.OutOrStdout(), headings, rows)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&filter.Labels, "label", "l", nil, "only those with this label, key=value or key; may be repeated")
	f.Uint32Var(&filter.Page, "page", 0, "only this page, from 1; 0: all")
	f.Uint32Var(&filter.PerPage, "per-page", 100, "how many are on a page, 1 to 1000")
	f.Uint32Var(&filter.Revision, "revision", 0, "of this revision; 0: the newest")
	return cmd
}

// nameReferences makes names of the ids that resources refer to, for people and files.
func nameReferences(cmd *cobra.Command, c *cli.Client, list []config.Message) error {
	names := map[config.Kind]map[string]string{}
	var err error
	for _, m := range list {
		config.EachReference(m, func(k config.Kind, ref *string) {
			if uuid.Validate(*ref) != nil || err != nil {
				return
			}
			if names[k] == nil {
				names[k] = map[string]string{}
				var all []config.Message
				all, err = c.List(cmd.Context(), k, cli.Filter{})
				for _, m := range all {
					names[k][m.GetId()] = m.GetName()
				}
			}
			if n, ok := names[k][*ref]; ok {
				*ref = n
			}
		})
	}
	return err
}

func (r *root) remove() *cobra.Command {
	var message string
	cmd := &cobra.Command{
		Use: "delete KIND NAME", Short: "Remove a resource that nothing refers to", Args: args(2, 2), ValidArgsFunction: r.complete,
		RunE: func(cmd *cobra.Command, given []string) error {
			k, err := kind(given[0])
			if err != nil {
				return err
			}
			c, err := cli.Connect(r.set)
			if err != nil {
				return err
			}
			defer c.Close()
			c.Message = message
			meta, err := c.Delete(cmd.Context(), k, given[1])
			if err != nil {
				return err
			}
			warn(cmd, meta.GetWarnings(), nil)
			fmt.Fprintf(cmd.OutOrStdout(), "revision %d: %s %q deleted\n", meta.GetRevision(), k, given[1])
			return nil
		},
	}
	messageFlag(cmd, &message)
	return cmd
}

func messageFlag(cmd *cobra.Command, message *string) {
	cmd.Flags().StringVarP(message, "message", "m", "", "why, in 1000 characters at most")
}

func (r *root) enable(on bool) *cobra.Command {
	use, short := "enable", "Let a route or middleware take part"
	if !on {
		use, short = "disable", "Take a route or middleware out"
	}
	var message string
	cmd := &cobra.Command{
		Use: use + " KIND NAME", Short: short, Args: args(2, 2), ValidArgsFunction: r.complete,
		RunE: func(cmd *cobra.Command, given []string) error {
			k, err := kind(given[0])
			if err != nil {
				return err
			}
			c, err := cli.Connect(r.set)
			if err != nil {
				return err
			}
			defer c.Close()
			c.Message = message
			m, meta, err := c.Enable(cmd.Context(), k, given[1], on)
			if err != nil {
				return err
			}
			warn(cmd, meta.GetWarnings(), nil)
			fmt.Fprintf(cmd.OutOrStdout(), "%s %q %sd\n", k, m.GetName(), use)
			return nil
		},
	}
	messageFlag(cmd, &message)
	return cmd
}
