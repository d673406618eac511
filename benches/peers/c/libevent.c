/* Echo on libevent's bufferevents. */
#include "address.h"
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <signal.h>

static void on_read(struct bufferevent *stream, void *unused) {
    (void)unused;
    bufferevent_write_buffer(stream, bufferevent_get_input(stream));
}

static void on_end(struct bufferevent *stream, short what, void *unused) {
    (void)unused;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
        bufferevent_free(stream);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t socket, struct sockaddr *peer, int length, void *unused) {
    (void)peer, (void)length, (void)unused;
    struct bufferevent *stream = bufferevent_socket_new(evconnlistener_get_base(listener), socket, BEV_OPT_CLOSE_ON_FREE);
    bufferevent_setcb(stream, on_read, NULL, on_end, NULL);
    bufferevent_enable(stream, EV_READ | EV_WRITE);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    struct event_base *base = event_base_new();
    int socket = listen_on(argc > 1 ? argv[1] : "127.0.0.1:0");
    evconnlistener_new(base, on_accept, NULL, LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_CLOSE_ON_FREE, 0, socket);
    return event_base_dispatch(base);
}
