/* Echo on libuv. */
#include "address.h"
#include <signal.h>
#include <uv.h>

static void on_allocate(uv_handle_t *stream, size_t suggested, uv_buf_t *buffer) {
    (void)stream;
    *buffer = uv_buf_init(malloc(suggested), suggested);
}

static void on_close(uv_handle_t *stream) { free(stream); }

static void on_written(uv_write_t *request, int status) {
    if (status < 0 && !uv_is_closing((uv_handle_t *)request->handle))
        uv_close((uv_handle_t *)request->handle, on_close);
    free(request->data);
    free(request);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    if (count > 0) {
        uv_write_t *request = malloc(sizeof *request);
        uv_buf_t bytes = uv_buf_init(buffer->base, count);
        request->data = buffer->base;
        uv_write(request, stream, &bytes, 1, on_written);
        return;
    }
    free(buffer->base);
    if (count < 0 && !uv_is_closing((uv_handle_t *)stream))
        uv_close((uv_handle_t *)stream, on_close);
}

static void on_connection(uv_stream_t *listener, int status) {
    if (status < 0)
        return;
    uv_tcp_t *client = malloc(sizeof *client);
    uv_tcp_init(listener->loop, client);
    uv_accept(listener, (uv_stream_t *)client);
    uv_read_start((uv_stream_t *)client, on_allocate, on_read);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in address = parse_address(argc > 1 ? argv[1] : "127.0.0.1:0");
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t listener;
    uv_tcp_init(loop, &listener);
    if (uv_tcp_bind(&listener, (const struct sockaddr *)&address, 0) || uv_listen((uv_stream_t *)&listener, 1024, on_connection))
        return 1;
    /* Accepted sockets inherit it. */
    uv_tcp_nodelay(&listener, 1);
    int descriptor;
    uv_fileno((uv_handle_t *)&listener, &descriptor);
    announce(descriptor);
    return uv_run(loop, UV_RUN_DEFAULT);
}
