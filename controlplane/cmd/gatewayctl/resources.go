package main

import (
	"fmt"
	"time"

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
		Use: "get KIND [NAME]", Short: "Show resources: all of a kind, one page of them, or one", Args: args(1, 2), ValidArgsFunction: r.complete,
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
			if r.output != "table" {
				return cli.Print(cmd.OutOrStdout(), r.output, list, len(given) == 2)
			}
			if k == config.Route {
				if err := nameServices(cmd, c, list); err != nil {
					return err
				}
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

// nameServices makes names of the service ids that routes have, for people to read.
func nameServices(cmd *cobra.Command, c *cli.Client, routes []config.Message) error {
	services, err := c.List(cmd.Context(), config.Service, cli.Filter{})
	if err != nil {
		return err
	}
	names := map[string]string{}
	for _, s := range services {
		names[s.GetId()] = s.GetName()
	}
	for _, m := range routes {
		config.EachReference(m, func(k config.Kind, ref *string) {
			if n, ok := names[*ref]; ok && k == config.Service {
				*ref = n
			}
		})
	}
	return nil
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
