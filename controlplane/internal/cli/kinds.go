package cli

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	adminv1 "gateway.internal/proto/gen/gateway/admin/v1"
	"gateway.internal/shared/config"
)

// The services of the kinds are alike but for their messages' names, so that calls are made by name.

// serviceOf returns the gRPC service of a kind, and how its methods call one and many.
func serviceOf(k config.Kind) (service, one, many string) {
	one = string(config.New(k).ProtoReflect().Descriptor().Name())
	many = strings.ToUpper(k.Plural()[:1]) + k.Plural()[1:]
	return "gateway.admin.v1." + one + "ConfigService", one, many
}

// call invokes a method of a kind's service with request fields by name, and returns the reply.
func (c *Client) call(ctx context.Context, k config.Kind, method string, fields map[string]any) (protoreflect.Message, error) {
	service, _, _ := serviceOf(k)
	sd, err := findService(service)
	if err != nil {
		return nil, err
	}
	md := sd.Methods().ByName(protoreflect.Name(method))
	if md == nil { // all kinds can be read and deleted
		return nil, &UsageError{k.Plural() + " can't be enabled or disabled; routes and middleware can"}
	}
	req, err := newMessage(md.Input())
	if err != nil {
		return nil, err
	}
	for name, v := range fields {
		f := md.Input().Fields().ByName(protoreflect.Name(name))
		if f == nil {
			return nil, &UsageError{fmt.Sprintf("%s have no filter %q", k.Plural(), name)}
		}
		if list, ok := v.([]string); ok {
			l := req.Mutable(f).List()
			for _, s := range list {
				l.Append(protoreflect.ValueOfString(s))
			}
			continue
		}
		req.Set(f, protoreflect.ValueOf(v))
	}
	reply, err := newMessage(md.Output())
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.Context(ctx)
	defer cancel()
	if err := c.conn.Invoke(ctx, "/"+service+"/"+method, req.Interface(), reply.Interface()); err != nil {
		return nil, err
	}
	return reply, nil
}

func findService(name string) (protoreflect.ServiceDescriptor, error) {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil, fmt.Errorf("there is no service %s", name)
	}
	s, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no service", name)
	}
	return s, nil
}

// Filter says which resources of a kind are listed.
type Filter struct {
	// Labels are "key=value" or "key"; a resource has to carry them all.
	Labels []string
	// Page is the one page that is wanted, from 1, of PerPage resources; 0: all of them.
	Page, PerPage uint32
	// Revision is the one that they are of; 0: the newest.
	Revision uint32
}

// most is the largest page that the control plane gives.
const most = 1000

// List returns resources of a kind, by name. They are of one revision, whatever is committed meanwhile.
func (c *Client) List(ctx context.Context, k config.Kind, f Filter) ([]config.Message, error) {
	if f.Page > 0 {
		list, _, err := c.page(ctx, k, f)
		return list, err
	}
	var all []config.Message
	f.Page, f.PerPage = 1, most
	for {
		list, revision, err := c.page(ctx, k, f)
		switch {
		case detail(err).GetCode() == "REQUEST_TOO_LARGE" && f.PerPage > 1:
			f.Page, f.PerPage = (f.Page-1)*10+1, f.PerPage/10 // the same place among smaller pages: the most are a power of ten
			continue
		case err != nil:
			return nil, err
		}
		all, f.Revision = append(all, list...), revision
		if len(list) < int(f.PerPage) {
			return all, nil
		}
		f.Page++
	}
}

// page returns one page, and the revision that it is of.
func (c *Client) page(ctx context.Context, k config.Kind, f Filter) ([]config.Message, uint32, error) {
	_, _, many := serviceOf(k)
	fields := map[string]any{"page": f.Page, "per_page": f.PerPage, "revision": f.Revision}
	if len(f.Labels) > 0 {
		fields["labels"] = f.Labels
	}
	reply, err := c.call(ctx, k, "List"+many, fields)
	if err != nil {
		return nil, 0, err
	}
	list := reply.Get(reply.Descriptor().Fields().ByNumber(1)).List()
	out := make([]config.Message, 0, list.Len())
	for i := range list.Len() {
		if m, ok := list.Get(i).Message().Interface().(config.Message); ok {
			out = append(out, m)
		}
	}
	m, _ := reply.Interface().(interface{ GetMeta() *adminv1.ReplyMeta })
	return out, m.GetMeta().GetRevision(), nil
}

// Get returns one resource.
func (c *Client) Get(ctx context.Context, k config.Kind, name string) (config.Message, error) {
	_, one, _ := serviceOf(k)
	m, _, err := c.single(ctx, k, "Get"+one, name)
	return m, err
}

// Enable sets whether a resource takes part, and returns it with what else there is to say.
func (c *Client) Enable(ctx context.Context, k config.Kind, name string, on bool) (config.Message, *adminv1.ReplyMeta,
	error) {
	_, one, _ := serviceOf(k)
	if on {
		return c.single(ctx, k, "Enable"+one, name)
	}
	return c.single(ctx, k, "Disable"+one, name)
}

func (c *Client) single(ctx context.Context, k config.Kind, method, name string) (config.Message, *adminv1.ReplyMeta,
	error) {
	reply, err := c.call(ctx, k, method, map[string]any{"id": name})
	if err != nil {
		return nil, nil, err
	}
	m, ok := reply.Get(reply.Descriptor().Fields().ByNumber(1)).Message().Interface().(config.Message)
	if !ok {
		return nil, nil, fmt.Errorf("%s returned no resource", method)
	}
	return m, metaOf(reply), nil
}

// Delete removes one resource and returns what there is to say of it.
func (c *Client) Delete(ctx context.Context, k config.Kind, name string) (*adminv1.ReplyMeta, error) {
	_, one, _ := serviceOf(k)
	reply, err := c.call(ctx, k, "Delete"+one, map[string]any{"id": name})
	if err != nil {
		return nil, err
	}
	return metaOf(reply), nil
}

// metaOf returns what goes with every reply.
func metaOf(reply protoreflect.Message) *adminv1.ReplyMeta {
	if r, ok := reply.Interface().(interface{ GetMeta() *adminv1.ReplyMeta }); ok {
		return r.GetMeta()
	}
	return nil
}

func newMessage(d protoreflect.MessageDescriptor) (protoreflect.Message, error) {
	t, err := findType(d.FullName())
	if err != nil {
		return nil, err
	}
	return t.New(), nil
}
