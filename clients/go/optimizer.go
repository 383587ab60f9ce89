package adamd

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// Optimizer is a handle on one named optimizer of a server. Goroutines may share it.
type Optimizer struct {
	client     *Client
	name, path string
}

// Name is the optimizer's.
func (o *Optimizer) Name() string { return o.name }

// get is a request that reads what is under the optimizer's path.
func (o *Optimizer) get(rest string) request { return o.send("GET", rest) }

func (o *Optimizer) send(method, rest string) request {
	return request{method: method, path: o.path + rest, header: http.Header{}}
}

// withJSON gives a request a body in JSON.
func (r request) withJSON(media string, value any) (request, error) {
	text, err := marshal(value)
	r.contentType, r.parts = media, [][]byte{text}
	return r, err
}

// withTensors gives a request a body in safetensors.
func (r request) withTensors(tensors Tensors, metadata []pair) (request, error) {
	var err error
	r.contentType = mediaSafetensors
	r.parts, err = encode(tensors, metadata)
	return r, err
}

// withOptions is withTensors whose metadata has one member, in JSON, where there is something to say.
func (r request) withOptions(tensors Tensors, key string, options JSON) (request, error) {
	if len(options) == 0 {
		return r.withTensors(tensors, nil)
	}
	text, err := marshal(options)
	if err != nil {
		return r, err
	}
	return r.withTensors(tensors, []pair{{key, string(text)}})
}

// run is a call of which only the success matters.
func (o *Optimizer) run(ctx context.Context, r request, err error) error {
	if err == nil {
		err = o.check()
	}
	if err == nil {
		_, err = o.client.call(ctx, r)
	}
	return err
}

// check refuses the name that would make another path of an optimizer's.
func (o *Optimizer) check() error {
	if o.name == "" {
		return fmt.Errorf("adamd: the optimizer's name is empty")
	}
	return nil
}

// ask is a call with a reply in JSON.
func ask[T any](ctx context.Context, o *Optimizer, r request, err error) (*T, error) {
	if err == nil {
		err = o.check()
	}
	if err != nil {
		return nil, err
	}
	return sendJSON[T](ctx, o.client, r)
}

// Create makes the optimizer, with these initial values; those of 16 bits become float32.
func (o *Optimizer) Create(ctx context.Context, params Tensors, options ...CreateOption) (*Summary, error) {
	spec := createSpec{JSON{}, JSON{}}
	for _, option := range options {
		option.create(&spec)
	}
	if len(spec.defaults) > 0 {
		spec.spec["defaults"] = spec.defaults
	}
	r, err := o.send("PUT", "").withOptions(params, "optimizer", spec.spec)
	return ask[Summary](ctx, o, r, err)
}

// CreateFrom makes the optimizer of a safetensors file: its tensors are the initial values, and
// __metadata__.optimizer the options. The server refuses other metadata, such as the "format" or
// "step" of files that were made for something else: ReadSafetensors and Create take those. The
// reader is asked for its length; one that does not know it is read into memory first.
func (o *Optimizer) CreateFrom(ctx context.Context, file io.Reader) (*Summary, error) {
	r, err := o.send("PUT", "").withStream(file)
	return ask[Summary](ctx, o, r, err)
}

// Summary is the optimizer at a glance.
func (o *Optimizer) Summary(ctx context.Context) (*Summary, error) {
	return ask[Summary](ctx, o, o.get(""), nil)
}

// ETag is the version that the optimizer is at, for IfMatch and IfNoneMatch.
func (o *Optimizer) ETag(ctx context.Context) (string, error) {
	if err := o.check(); err != nil {
		return "", err
	}
	got, err := o.client.call(ctx, o.send("HEAD", ""))
	if err != nil {
		return "", err
	}
	return got.etag(), nil
}

// Delete removes the optimizer.
func (o *Optimizer) Delete(ctx context.Context) error {
	return o.run(ctx, o.send("DELETE", ""), nil)
}

// Configure changes settings, from the next step on.
func (o *Optimizer) Configure(ctx context.Context, settings ...ConfigureOption) (*Summary, error) {
	changes := JSON{}
	for _, setting := range settings {
		setting.configure(changes)
	}
	r, err := o.send("PATCH", "").withJSON(mediaMerge, changes)
	return ask[Summary](ctx, o, r, err)
}

// Params are all parameters, of one version.
type Params struct {
	Tensors
	Step int64
	ETag string
}

// Params reads all parameters. ErrNotModified where they are still those of IfNoneMatch.
func (o *Optimizer) Params(ctx context.Context, options ...ReadOption) (*Params, error) {
	spec := readSpec{headers{}, url.Values{}, 0, nil}
	for _, option := range options {
		option.read(&spec)
	}
	if err := firstOf(spec.err, o.check()); err != nil {
		return nil, err
	}
	r := o.get("/params" + query(spec.query))
	r.header, r.longer = http.Header(spec.header), spec.wait
	got, tensors, metadata, err := o.client.callTensors(ctx, r)
	if err != nil {
		return nil, err
	}
	if got.status == http.StatusNotModified {
		return nil, ErrNotModified
	}
	step, err := strconv.ParseInt(metadata["step"], 10, 64)
	if err != nil || got.etag() == "" {
		return nil, o.client.odd(&r, got, "step is %q, and the ETag %q: expected both", metadata["step"], got.etag())
	}
	return &Params{tensors, step, got.etag()}, nil
}

// Param reads one parameter.
func (o *Optimizer) Param(ctx context.Context, name string, as ...TypeOption) (Tensor, error) {
	if name == "" {
		return Tensor{}, fmt.Errorf("adamd: the parameter's name is empty")
	}
	if err := o.check(); err != nil {
		return Tensor{}, err
	}
	r := o.get("/params/" + segment(name) + query(typeQuery(as)))
	got, tensors, _, err := o.client.callTensors(ctx, r)
	if err != nil {
		return Tensor{}, err
	}
	tensor, ok := tensors.Get(name)
	if !ok {
		return tensor, o.client.odd(&r, got, "no tensor %q in the reply", name)
	}
	return tensor, nil
}

// PutParams overwrites the values of all parameters, by name; moments and step counts stay.
func (o *Optimizer) PutParams(ctx context.Context, params Tensors) error {
	r, err := o.send("PUT", "/params").withTensors(params, nil)
	return o.run(ctx, r, err)
}

// PutParamsFrom is PutParams with a safetensors file without metadata, read as in CreateFrom.
func (o *Optimizer) PutParamsFrom(ctx context.Context, file io.Reader) error {
	r, err := o.send("PUT", "/params").withStream(file)
	return o.run(ctx, r, err)
}

// WriteParams writes all parameters as a safetensors file, as WriteStateDict does. Its metadata has
// their step.
func (o *Optimizer) WriteParams(ctx context.Context, w io.Writer, as ...TypeOption) error {
	return o.stream(ctx, o.get("/params"+query(typeQuery(as))), w)
}

// DataOption says which numbers a reply in JSON has.
type DataOption string

// Without one of these, the numbers of a parameter stand where it has at most 1000.
const (
	AllData DataOption = "all"
	NoData  DataOption = "none"
)

// ParamGroups are torch's param_groups.
func (o *Optimizer) ParamGroups(ctx context.Context, data ...DataOption) ([]Group, error) {
	groups, err := ask[[]Group](ctx, o, o.get("/param_groups"+query(dataQuery(data))), nil)
	if err != nil {
		return nil, err
	}
	return *groups, nil
}

// AddParamGroup adds a group of new parameters. Its options are hyperparameters and schedule; what
// they leave out comes from the optimizer's defaults. nil: all of it.
func (o *Optimizer) AddParamGroup(ctx context.Context, params Tensors, options JSON) error {
	r, err := o.send("POST", "/param_groups").withOptions(params, "param_group", options)
	return o.run(ctx, r, err)
}

// PatchParamGroup changes hyperparameters of one group, from the next step on. A schedule replaces
// the group's; nil takes it away.
func (o *Optimizer) PatchParamGroup(ctx context.Context, index int, changes JSON) (*Group, error) {
	r, err := o.send("PATCH", "/param_groups/"+strconv.Itoa(index)).withJSON(mediaMerge, changes)
	return ask[Group](ctx, o, r, err)
}

// State is step, moments and their statistics of one parameter.
func (o *Optimizer) State(ctx context.Context, param string, data ...DataOption) (*State, error) {
	return ask[State](ctx, o, o.get("/state/"+segment(param)+query(dataQuery(data))), nil)
}

// Digest is a SHA-256 of everything that decides the next step, computed by the server.
func (o *Optimizer) Digest(ctx context.Context) (*Digest, error) {
	return ask[Digest](ctx, o, o.get("/digest"), nil)
}

// History is the last steps, oldest first: this many, or with 0 all that the server keeps.
func (o *Optimizer) History(ctx context.Context, last int) ([]StepRecord, error) {
	type history struct {
		History []StepRecord `json:"history"`
	}
	reply, err := ask[history](ctx, o, o.get("/history"+query(lastQuery(last))), nil)
	if err != nil {
		return nil, err
	}
	return reply.History, nil
}

// Changes is what was changed between steps, oldest first: the last of them, as in History.
func (o *Optimizer) Changes(ctx context.Context, last int) ([]Change, error) {
	type changes struct {
		Changes []Change `json:"changes"`
	}
	reply, err := ask[changes](ctx, o, o.get("/changes"+query(lastQuery(last))), nil)
	if err != nil {
		return nil, err
	}
	return reply.Changes, nil
}

// Workers are those who have sent gradients under a name.
func (o *Optimizer) Workers(ctx context.Context) (*Workers, error) {
	return ask[Workers](ctx, o, o.get("/workers"), nil)
}

// RemoveWorker forgets a worker, and ends its quarantine.
func (o *Optimizer) RemoveWorker(ctx context.Context, name string) error {
	return o.run(ctx, o.send("DELETE", "/workers/"+segment(name)), nil)
}

// Round is the gradients that are held now.
func (o *Optimizer) Round(ctx context.Context) (*Round, error) {
	return ask[Round](ctx, o, o.get("/round"), nil)
}

// DropRound drops the gradients that are held; those who wait for the round are refused: RoundEnded.
func (o *Optimizer) DropRound(ctx context.Context) error {
	return o.run(ctx, o.send("DELETE", "/round"), nil)
}

// Snapshot writes a snapshot, and returns when it is on disk. Like Rollback and Fork, it needs a
// server with a data directory: NoDataDir otherwise.
func (o *Optimizer) Snapshot(ctx context.Context) (*Snapshot, error) {
	return ask[Snapshot](ctx, o, o.send("POST", "/snapshot"), nil)
}

// Rollback makes the optimizer what it was at an earlier step, to the bit.
func (o *Optimizer) Rollback(ctx context.Context, step int64) (*Summary, error) {
	r, err := o.send("POST", "/rollback").withJSON(mediaJSON, JSON{"step": step})
	return ask[Summary](ctx, o, r, err)
}

// ForkOption is a choice of Fork.
type ForkOption func(JSON)

// AtStep forks what the optimizer was at this step.
func AtStep(step int64) ForkOption { return func(body JSON) { body["step"] = step } }

// Fork makes another optimizer of what this one is. The summary is the new one's.
func (o *Optimizer) Fork(ctx context.Context, name string, options ...ForkOption) (*Summary, error) {
	body := JSON{"name": name}
	for _, option := range options {
		option(body)
	}
	r, err := o.send("POST", "/fork").withJSON(mediaJSON, body)
	return ask[Summary](ctx, o, r, err)
}

// ---- queries

func query(values url.Values) string {
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}

func typeQuery(options []TypeOption) url.Values {
	spec := readSpec{query: url.Values{}}
	for _, option := range options {
		option.read(&spec)
	}
	return spec.query
}

func dataQuery(options []DataOption) url.Values {
	values := url.Values{}
	for _, option := range options {
		values.Set("data", string(option))
	}
	return values
}

func lastQuery(last int) url.Values {
	if last == 0 {
		return nil
	}
	return url.Values{"last": {strconv.Itoa(last)}}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
