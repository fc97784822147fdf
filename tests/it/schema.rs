//! The exported schema.

#[test]
fn the_schema_file_is_what_the_server_serves() {
    let file =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.graphql")).unwrap();
    assert!(
        file == orfeas::graphql::sdl(),
        "schema.graphql is out of date: run `target/release/orfeas schema > schema.graphql`"
    );
}
