use super::*;
use proptest::prelude::*;

/// As `mariadb-dump` writes it, shortened.
const DUMP: &str = "/*M!999999\\- enable the sandbox mode */ 
-- MariaDB dump 10.19
/*!40103 SET TIME_ZONE='+00:00' */;

--
-- Sequence structure for `s`
--

CREATE SEQUENCE `s` start with 41;

--
-- Table structure for table `a`
--

DROP TABLE IF EXISTS `a`;
CREATE TABLE `a` (
  `id` int(11) NOT NULL
) ENGINE=InnoDB;

--
-- Dumping data for table `a`
--

INSERT INTO `a` VALUES
(1,'ALTER DATABASE `old` CHARACTER SET x'),
(2,'CREATE DEFINER=`a`@`b` x');
DELIMITER ;;
/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 TRIGGER tr BEFORE INSERT ON a FOR EACH ROW BEGIN
-- Table structure for table `o`
CREATE DEFINER=`root`@`localhost` is text;
 END */;;
DELIMITER ;

--
-- Table structure for table `o``d d`
--

CREATE TABLE `o``d d` (
  `x` int(11)
);

--
-- Dumping events for database 'old'
--
DELIMITER ;;
/*!50003 SET time_zone             = 'SYSTEM' */ ;;
ALTER DATABASE `old` CHARACTER SET latin1 COLLATE latin1_swedish_ci ;;
/*!50106 CREATE*/ /*!50117 DEFINER=`ro``ot`@`%`*/ /*!50106 EVENT `ev` DO SELECT 1 */ ;;
DELIMITER ;

--
-- Dumping routines for database 'old'
--
ALTER DATABASE `old` CHARACTER SET latin1 COLLATE latin1_swedish_ci ;
DELIMITER ;;
CREATE DEFINER=`app`@`localhost` PROCEDURE `pr`()
BEGIN
  SELECT 'CREATE DEFINER=`a`@`b` ;;
CREATE DEFINER=`a`@`b` x';
END ;;
DELIMITER ;
DELIMITER ;;
CREATE DEFINER=\"root\"@\"localhost\" PACKAGE \"pk\" AS END ;;
DELIMITER ;
DELIMITER ;;
CREATE DEFINER=`role` FUNCTION `f`() RETURN 1 ;;
DELIMITER ;

--
-- Final view structure for view `v`
--

/*!50001 CREATE ALGORITHM=UNDEFINED */
/*!50013 DEFINER=`root`@`localhost` SQL SECURITY DEFINER */
/*!50001 VIEW `v` AS select 1 */;
/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;

-- Dump completed
";

fn run(dump: &[u8], plan: &Plan, pieces: usize) -> (Vec<u8>, Vec<String>) {
    let mut made = Vec::new();
    let mut script = Script::new(&mut made, plan.clone());
    for piece in dump.chunks(pieces.max(1)) {
        script.write_all(piece).unwrap();
    }
    let missing = script.finish().unwrap();
    (made, missing)
}

fn plan(database: &str, without_definers: bool, tables: &[&str]) -> Plan {
    Plan { database: Some(database.into()), without_definers, tables: tables.iter().map(|table| (*table).to_owned()).collect() }
}

#[test]
fn definers_go_and_nothing_else() {
    let (made, missing) = run(DUMP.as_bytes(), &plan("n`w", true, &[]), 4096);
    let expected = DUMP
        .replace("/*!50017 DEFINER=`root`@`localhost`*/ ", "")
        .replace("/*!50117 DEFINER=`ro``ot`@`%`*/ ", "")
        .replace("CREATE DEFINER=`app`@`localhost` PROCEDURE", "CREATE PROCEDURE")
        .replace("CREATE DEFINER=\"root\"@\"localhost\" PACKAGE", "CREATE PACKAGE")
        .replace("CREATE DEFINER=`role` FUNCTION", "CREATE FUNCTION")
        .replace("/*!50013 DEFINER=`root`@`localhost` SQL", "/*!50013 SQL")
        .replace("\nALTER DATABASE `old`", "\nALTER DATABASE `n``w`");
    assert_eq!(String::from_utf8(made).unwrap(), expected);
    assert!(missing.is_empty());
}

#[test]
fn single_tables_come_with_their_data_and_triggers() {
    let (made, missing) = run(DUMP.as_bytes(), &plan("new", false, &["a", "absent"]), 7);
    let made = String::from_utf8(made).unwrap();
    let from = DUMP.find("-- Table structure for table `a`").unwrap();
    let to = DUMP.find("-- Table structure for table `o``d d`").unwrap();
    assert!(made.contains(&DUMP[from..to]), "{made}");
    for absent in ["CREATE TABLE `o``d d`", "SEQUENCE", "EVENT", "PROCEDURE", "VIEW"] {
        assert!(!made.contains(absent), "{absent}: {made}");
    }
    assert!(made.starts_with("/*M!999999") && made.contains("SET TIME_ZONE='+00:00'") && made.ends_with("-- Dump completed\n"));
    assert_eq!(missing, ["absent"]);
    let (made, missing) = run(DUMP.as_bytes(), &plan("new", false, &["s", "o`d d"]), 4096);
    let made = String::from_utf8(made).unwrap();
    assert!(missing.is_empty() && made.contains("CREATE SEQUENCE") && made.contains("CREATE TABLE `o``d d`"));
    assert!(!made.contains("TRIGGER") && !made.contains("CREATE TABLE `a`"));
}

#[test]
fn bytes_that_are_no_text_stay_as_they_are() {
    let dump = b"DELIMITER ;;\nCREATE DEFINER=`a`@`b` FUNCTION `f`() RETURN '\xff\xfe' ;;\nDELIMITER ;\nINSERT INTO `a` VALUES ('\xff');\n";
    let (made, _) = run(dump, &plan("x", true, &[]), 5);
    assert_eq!(made, b"DELIMITER ;;\nCREATE FUNCTION `f`() RETURN '\xff\xfe' ;;\nDELIMITER ;\nINSERT INTO `a` VALUES ('\xff');\n");
    // Longer than what is looked at, and without an end.
    let long = [b"INSERT INTO `a` VALUES ('".as_slice(), &vec![b'x'; 3 * HEAD], b"');\nALTER DATABASE `a` CHARACTER SET x;"].concat();
    let (made, _) = run(&long, &plan("b", true, &[]), 1000);
    assert_eq!(
        made,
        long.strip_suffix(b"ALTER DATABASE `a` CHARACTER SET x;")
            .unwrap()
            .iter()
            .chain(b"ALTER DATABASE `b` CHARACTER SET x;")
            .copied()
            .collect::<Vec<_>>()
    );
}

proptest! {
    #[test]
    fn what_is_made_does_not_depend_on_the_pieces(pieces in 1usize..200, table in any::<bool>()) {
        let plan = plan("new", true, if table { &["a"] } else { &[] });
        prop_assert_eq!(run(DUMP.as_bytes(), &plan, pieces), run(DUMP.as_bytes(), &plan, DUMP.len()));
    }

    #[test]
    fn without_a_plan_everything_passes(dump in proptest::collection::vec(any::<u8>(), 0..5000), pieces in 1usize..400) {
        let (made, _) = run(&dump, &Plan::default(), pieces);
        prop_assert_eq!(made, dump);
    }
}
