/* How long select, poll and epoll_wait take with one ready descriptor, of 10 and of 1000. Each line has the name of the call
   and both times in nanoseconds, each the shortest of many: a busy machine makes some longer, and none shorter. */

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <time.h>

enum { MOST = 1000, ROUNDS = 2000 };

static int fds[MOST];

static void check(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

/* The kernel is told all descriptors in each call, and writes its answer over them. */
static int call_select(int count)
{
    fd_set set;
    FD_ZERO(&set);
    for (int at = 0; at < count; at++)
        FD_SET(fds[at], &set);
    return select(fds[count - 1] + 1, &set, NULL, NULL, NULL);
}

/* The same, but the question stays. */
static int call_poll(int count)
{
    static struct pollfd all[MOST];
    for (int at = 0; at < count; at++)
        all[at] = (struct pollfd){ .fd = fds[at], .events = POLLIN };
    return poll(all, count, -1);
}

/* The kernel was told before, and keeps a list of those that are ready. */
static int epolls[MOST + 1];

static int call_epoll(int count)
{
    struct epoll_event events[10];
    return epoll_wait(epolls[count], events, 10, -1);
}

static void make_epoll(int count)
{
    epolls[count] = epoll_create1(0);
    check(epolls[count] >= 0, "epoll_create1");
    for (int at = 0; at < count; at++) {
        struct epoll_event event = { .events = EPOLLIN };
        check(epoll_ctl(epolls[count], EPOLL_CTL_ADD, fds[at], &event) == 0, "epoll_ctl");
    }
}

static double shortest(int (*call)(int), int count)
{
    double best = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now();
        int ready = call(count);
        double took = now() - start;
        check(ready == 1, "one is ready");
        if (took < best)
            best = took;
    }
    return best;
}

int main(void)
{
    /* select takes no descriptor from FD_SETSIZE (1024) on. 1000 and a few fit. */
    struct rlimit limit = { 1024, 1024 };
    check(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
    for (int at = 0; at < MOST; at++) {
        /* The first one is ready for ever, because nobody reads it. */
        fds[at] = eventfd(at == 0 ? 1 : 0, 0);
        check(fds[at] >= 0 && fds[at] < FD_SETSIZE, "eventfd");
    }
    make_epoll(10);
    make_epoll(MOST);
    printf("select %.0f %.0f\n", shortest(call_select, 10), shortest(call_select, MOST));
    printf("poll %.0f %.0f\n", shortest(call_poll, 10), shortest(call_poll, MOST));
    printf("epoll %.0f %.0f\n", shortest(call_epoll, 10), shortest(call_epoll, MOST));
    return 0;
}
