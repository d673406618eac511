//! The parts of the library, measured without a socket: `./benches/pieces/run`.

#[cfg(not(doorkeeper_pieces))]
compile_error!(
    "the pieces are private: run ./benches/pieces/run, which builds with --cfg doorkeeper_pieces"
);

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use doorkeeper::pieces;

fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("buffer");
    group.throughput(Throughput::Bytes(65_536));
    let mut work = pieces::buffer();
    group.bench_function("64 KiB, in by 1024 and out by 700", |bencher| {
        bencher.iter(&mut work)
    });
    group.finish();

    let mut group = criterion.benchmark_group("timers: one deadline moves");
    for count in [10, 1_000, 100_000, 1_000_000] {
        let mut work = pieces::timers(count);
        group.bench_with_input(BenchmarkId::from_parameter(count), &count, |bencher, _| {
            bencher.iter(&mut work)
        });
    }
    group.finish();

    let mut work = pieces::turn();
    criterion.bench_function("turn: 64 bytes echoed over memory", |bencher| {
        bencher.iter(|| assert!(work(), "a turn leaves nothing to do"));
    });
}

criterion_group!(benches, all);
criterion_main!(benches);
