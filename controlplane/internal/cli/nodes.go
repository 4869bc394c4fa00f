package cli

import (
	"context"

	"google.golang.org/protobuf/proto"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
)

// Nodes returns the nodes that a filter lets through, by id: those of its page, or without a page all of them.
func (c *Client) Nodes(ctx context.Context, filter *adminv1.ListNodesRequest) ([]*adminv1.Node, error) {
	req := proto.CloneOf(filter)
	if req.GetPage() > 0 {
		return c.nodesPage(ctx, req)
	}
	req.PerPage = most
	var all []*adminv1.Node
	for req.Page = 1; ; req.Page++ {
		list, err := c.nodesPage(ctx, req)
		if err != nil {
			return nil, err
		}
		for _, n := range list {
			// Nodes that come while the pages are read move others to a later page, where they are met again.
			if len(all) == 0 || n.GetId() > all[len(all)-1].GetId() {
				all = append(all, n)
			}
		}
		if len(list) < most {
			return all, nil
		}
	}
}

func (c *Client) nodesPage(ctx context.Context, req *adminv1.ListNodesRequest) ([]*adminv1.Node, error) {
	ctx, cancel := c.Context(ctx)
	defer cancel()
	reply, err := c.Fleet.ListNodes(ctx, req)
	if err != nil {
		return nil, err
	}
	return reply.GetNodes(), nil
}
