/* grpc_peer.cpp: a parameter server as one writes it with gRPC in C++, and its client, beside
 * adamd. Steps of one float32 parameter. The two take turns of some steps each, whose first does
 * not count: it finds the other's data in the caches. The server is a process of its own. */
#include <grpcpp/grpcpp.h>

#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "adam_loop.h"
#include "step.grpc.pb.h"

extern "C" {
#include "../harness.h"
}

namespace
{

constexpr const char *type = "application/vnd.safetensors";
constexpr size_t header_bytes = 128; // of a safetensors file: its length and header, padded
constexpr size_t slack = 4096;
constexpr double target = 2; // adamd's speed, of the peer's

class Optimizer final : public peers::Optimizer::Service
{
  public:
    explicit Optimizer(size_t n) : state(n) {}

    grpc::Status Step(grpc::ServerContext * /*context*/, const peers::Gradient *gradient,
                      peers::Params *params) override
    {
        const std::string &w = gradient->w();
        if (w.size() != state.param.size() * sizeof(float)) {
            return {grpc::StatusCode::INVALID_ARGUMENT, "the gradient has another size"};
        }
        adam_loop_step(state, reinterpret_cast<const float *>(w.data()));
        params->set_w(state.param.data(), w.size());
        return grpc::Status::OK;
    }

  private:
    AdamLoop state;
};

[[noreturn]] void serve(size_t n, int out)
{
    int port = 0;
    Optimizer service(n);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.SetMaxReceiveMessageSize(std::numeric_limits<int>::max());
    builder.RegisterService(&service);
    const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (server == nullptr || write(out, &port, sizeof port) != static_cast<ssize_t>(sizeof port)) {
        bench_fail("the gRPC server does not start");
    }
    server->Wait();
    std::abort(); // it is killed
}

/* Forks the server before this process has used gRPC. Returns its port. */
int start(size_t n, pid_t &pid)
{
    int out[2];
    int port = 0;
    if (pipe(out) != 0) {
        bench_fail("no pipe");
    }
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(out[0]);
        serve(n, out[1]);
    }
    close(out[1]);
    if (read(out[0], &port, sizeof port) != static_cast<ssize_t>(sizeof port)) {
        bench_fail("the gRPC server does not start");
    }
    close(out[0]);
    return port;
}

/* A safetensors file of one tensor "w" with n values. */
std::string make_body(size_t n)
{
    std::string header = R"({"w":{"dtype":"F32","shape":[)" + std::to_string(n) +
                         R"(],"data_offsets":[0,)" + std::to_string(4 * n) + "]}}";
    header.resize(header_bytes - 8, ' ');
    const uint64_t length = header.size();
    std::string body(reinterpret_cast<const char *>(&length), sizeof length);
    body += header;
    body.resize(header_bytes + 4 * n);
    for (size_t i = 0; i < n; i++) {
        const float value = static_cast<float>(i % 1000) * 1e-3F - 0.5F;
        std::memcpy(&body[header_bytes + 4 * i], &value, sizeof value);
    }
    return body;
}

/* Both took the same steps from zero, so the parameters are alike. */
void compare(const char *ours, const std::string &theirs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float a;
        float b;
        std::memcpy(&a, ours + 4 * i, sizeof a);
        std::memcpy(&b, theirs.data() + 4 * i, sizeof b);
        if (std::fabs(a - b) > 1e-5F + 1e-3F * std::fabs(a)) {
            bench_fail("element %zu is %g in adamd and %g in the peer", i, a, b);
        }
    }
}

struct Size {
    size_t n, turns, steps; /* steps of each turn */
    const char *name;
    pid_t pid; /* of the peer's server */
    int port;
};

using Stub = peers::Optimizer::Stub;

std::unique_ptr<Stub> connect(int port)
{
    grpc::ChannelArguments args;
    args.SetMaxReceiveMessageSize(std::numeric_limits<int>::max());
    return peers::Optimizer::NewStub(grpc::CreateCustomChannel(
        "127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials(), args));
}

void create_optimizer(int s, size_t n)
{
    char reply[slack];
    const std::string spec =
        R"({"algorithm":"adam","param_groups":[{"params":[{"name":"w","shape":[)" +
        std::to_string(n) + "]}]}]}";
    bench_request(s, "PUT", ("/v1/optimizers/" + std::to_string(n)).c_str(), "application/json",
                  spec.data(), spec.size(), reply, sizeof reply, 201);
}

/* One turn: calls step, and keeps the seconds of all calls but the first. */
template <typename Step> void take_turn(size_t steps, std::vector<double> &kept, const Step &step)
{
    step();
    for (size_t i = 0; i < steps; i++) {
        const double start = bench_now();
        step();
        kept.push_back(bench_now() - start);
    }
}

void measure(bench_table *t, int s, const Size &size)
{
    const size_t n = size.n;
    const std::unique_ptr<Stub> stub = connect(size.port);
    const std::string body = make_body(n);
    const std::string path = "/v1/optimizers/" + std::to_string(n) + "/step";
    std::vector<char> reply(body.size() + slack);
    peers::Gradient gradient;
    peers::Params params;
    std::vector<double> ours;
    std::vector<double> theirs;
    size_t length = 0;
    gradient.set_w(body.substr(header_bytes));
    create_optimizer(s, n);
    for (size_t i = 0; i < size.turns; i++) { /* so that both see the same machine */
        take_turn(size.steps, ours, [&] {
            length = bench_request(s, "POST", path.c_str(), type, body.data(), body.size(),
                                   reply.data(), reply.size(), 200)
                         .length;
        });
        take_turn(size.steps, theirs, [&] {
            grpc::ClientContext context;
            const grpc::Status status = stub->Step(&context, gradient, &params);
            if (!status.ok()) {
                bench_fail("gRPC: %s", status.error_message().c_str());
            }
        });
    }
    compare(reply.data() + length - 4 * n, params.w(), n);
    bench_table_add(t, size.name, 1 / bench_median(ours.data(), ours.size()), "1/s",
                    "gRPC in C++, plain Adam loop", 1 / bench_median(theirs.data(), theirs.size()),
                    BENCH_AT_LEAST, target);
}

} // namespace

int main(int argc, char **argv)
{
    const char *adamd = nullptr;
    const char *json = nullptr;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (std::strcmp(argv[i], "--adamd") == 0) {
            adamd = argv[i + 1];
        } else if (std::strcmp(argv[i], "--json") == 0) {
            json = argv[i + 1];
        } else {
            bench_fail("unknown option %s", argv[i]);
        }
    }
    if (adamd == nullptr || argc % 2 == 0) {
        bench_fail("usage: bench_grpc --adamd PATH [--json FILE]");
    }
    Size sizes[] = {{size_t{1} << 10, 20, 200, "step, client in C++, 1 K parameters", 0, 0},
                    {size_t{1} << 20, 8, 20, "step, client in C++, 1 M parameters", 0, 0},
                    {size_t{16} << 20, 5, 3, "step, client in C++, 16 M parameters", 0, 0}};
    for (Size &size : sizes) { /* all before this process uses gRPC, which no fork may follow */
        size.port = start(size.n, size.pid);
    }
    bench_table *t = bench_table_create();
    bench_server server = bench_server_start(adamd, nullptr);
    const int s = bench_connect("127.0.0.1", server.port);
    for (const Size &size : sizes) {
        measure(t, s, size);
        kill(size.pid, SIGKILL);
        waitpid(size.pid, nullptr, 0);
    }
    bench_table_end(t, json);
    close(s);
    bench_server_stop(&server);
    return 0;
}
